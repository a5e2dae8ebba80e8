// A question that has to be answered before something is done: a modal dialog that names the numbers.

import { h, announce } from "./dom.js";
import { problemBox } from "./problems.js";

// Resolves to what `act` gave, or to null when the person went back. `content` are nodes; `confirm` is the button's
// text, which names what will happen (without it there is nothing to confirm); while `act` runs nothing can be pressed twice, and its failure is shown here.
export function confirm({ title, content, confirm: label = "", back = "Go back", danger = false, act = null }) {
  return new Promise((resolve) => {
    const opener = document.activeElement;
    let result = null;
    let busy = false;
    const trouble = h("div", { class: "trouble" });
    const leave = h("button", { type: "button", id: "dialog-back", onclick: () => { if (!busy) dialog.close(); } }, back);
    const go = label && h("button", { type: "submit", id: "dialog-confirm", class: danger ? "primary danger" : "primary" }, label);
    const form = h("form", { onsubmit: (event) => { event.preventDefault(); submit(); } },
      h("h2", { id: "dialog-title" }, title),
      h("div", { class: "dialog-body", id: "dialog-body" }, content),
      trouble,
      h("div", { class: "dialog-actions" }, leave, go));
    const dialog = h("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-body" }, form);

    async function submit() {
      if (busy || !act) return;
      busy = true;
      // Not `disabled`: that would drop the focus out of the dialog.
      for (const each of [go, leave]) each.setAttribute("aria-disabled", "true");
      go.classList.add("working");
      trouble.replaceChildren();
      announce("Working …");
      try {
        result = await act(new FormData(form));
        busy = false;
        dialog.close();
      } catch (problem) {
        trouble.replaceChildren(problemBox(problem, { id: "dialog-problem" }));
        document.getElementById("dialog-problem").focus();
      } finally {
        busy = false;
        for (const each of [go, leave]) each.removeAttribute("aria-disabled");
        go.classList.remove("working");
      }
    }

    // Escape and "Go back" must not hide a request that is under way.
    dialog.addEventListener("cancel", (event) => { if (busy) event.preventDefault(); });
    dialog.addEventListener("keydown", (event) => { if (busy && event.key === "Escape") event.preventDefault(); });
    dialog.addEventListener("close", () => {
      dialog.remove();
      // The opener may be gone: what it offered has been done, or the page has changed beneath and has a focus of its own.
      const again = opener?.isConnected ? opener : document.getElementById(opener?.id ?? "");
      if (again) again.focus();
      else if (document.activeElement === document.body) document.getElementById("main").focus();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
    // The safe answer has the focus: Enter alone does nothing that cannot be taken back.
    leave.focus();
  });
}
