"""How results are shown: numbers and hostile text as words (`text`), aggregates of a plan or a manifest
(`summary`), and a self-contained page (`html`). Nothing here decides anything; a report that cannot be made
never fails a cycle."""
