/** The list of conversations: beside the page where there is room, over it on a phone. */

import { find, h, iconButton } from "./dom.js";

/** on: {open(id), fresh(), remove(head)}. */
export class Sidebar {
  constructor(on) {
    this.on = on;
    this.list = find("#heads");
    this.narrow = matchMedia("(max-width: 60rem)");
    find("#new").addEventListener("click", () => {
      this.close();
      on.fresh();
    });
    find("#open-sidebar").addEventListener("click", () => this.toggle());
    find("#close-sidebar").addEventListener("click", () => this.close(true));
    find("#shade").addEventListener("click", () => this.close(true));
    find("#sidebar").addEventListener("keydown", (event) => event.key === "Escape" && this.close(true));
    this.narrow.addEventListener("change", () => this.close());
  }

  get isOpen() {
    return document.body.classList.contains("listing");
  }

  toggle() {
    if (this.isOpen) return this.close(true);
    document.body.classList.add("listing");
    find("main").inert = true;
    find("#open-sidebar").setAttribute("aria-expanded", "true");
    return find("#new").focus();
  }

  close(refocus = false) {
    if (!this.isOpen) return;
    document.body.classList.remove("listing");
    find("main").inert = false;
    find("#open-sidebar").setAttribute("aria-expanded", "false");
    if (refocus) find("#open-sidebar").focus();
  }

  show(heads, currentId) {
    this.list.replaceChildren(...heads.map((head) => this.row(head, head.id === currentId)));
  }

  row(head, isCurrent) {
    const open = h(
      "button",
      { type: "button", class: "head", "aria-current": isCurrent ? "page" : null, onclick: () => this.pick(head.id) },
      head.title,
    );
    return h(
      "li",
      { class: isCurrent ? "current" : null },
      open,
      iconButton("delete", `Delete “${head.title}”`, () => this.on.remove(head)),
    );
  }

  pick(id) {
    this.close();
    this.on.open(id);
  }
}
