"""A reader for S3's small XML answers: elements without namespaces, no document types, no entities of their
own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

__all__ = ["Element", "escape", "parse_xml"]


@dataclass(slots=True)
class Element:
    """One element: its local name, its own text, its children in order."""

    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)

    def find(self, path: str) -> Element | None:
        """The first descendant at `path` ("Owner/ID")."""
        current: Element | None = self
        for name in path.split("/"):
            current = next(
                (child for child in (current.children if current else ()) if child.name == name), None
            )
        return current

    def get(self, path: str, default: str = "") -> str:
        found = self.find(path)
        return default if found is None else found.text

    def all(self, name: str) -> Iterator[Element]:
        return (child for child in self.children if child.name == name)


def parse_xml(body: bytes) -> Element:
    """Parse a whole document. Raises ValueError when it is not exactly one well-formed element."""
    root = Element("")
    stack = [root]
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        element = Element(
            name.rpartition(":")[2], attributes={k.rpartition(":")[2]: v for k, v in attributes.items()}
        )
        stack[-1].children.append(element)
        stack.append(element)

    def end(_name: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def doctype(*_: object) -> None:
        raise ValueError("a document type is not part of any S3 answer")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise ValueError(f"not a whole XML document: {error}") from error
    return root.children[0]


def escape(text: str) -> str:
    """Escape for an element's text. Carriage returns too: a parser would make newlines of them."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
