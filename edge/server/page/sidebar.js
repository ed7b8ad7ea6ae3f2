/** The list of conversations: beside the page where there is room, over it on a phone. */

import { find, h, iconButton } from "./dom.js";

/**
 * @import { Head } from "./conversation.js"
 *
 * @typedef {{ open(id: string): void, fresh(): void, remove(head: Head): void }} SidebarEvents
 */

export class Sidebar {
  /** @param {SidebarEvents} on */
  constructor(on) {
    this.on = on;
    this.list = find("#heads");
    this.main = find("main");
    this.opener = find("#open-sidebar");
    this.narrow = matchMedia("(max-width: 60rem)");
    find("#new").addEventListener("click", () => {
      this.close();
      on.fresh();
    });
    this.opener.addEventListener("click", () => this.toggle());
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
    this.main.inert = true;
    this.opener.setAttribute("aria-expanded", "true");
    return find("#new").focus();
  }

  close(refocus = false) {
    if (!this.isOpen) return;
    document.body.classList.remove("listing");
    this.main.inert = false;
    this.opener.setAttribute("aria-expanded", "false");
    if (refocus) this.opener.focus();
  }

  /**
   * @param {Head[]} heads
   * @param {string} currentId
   */
  show(heads, currentId) {
    this.list.replaceChildren(...heads.map((head) => this.row(head, head.id === currentId)));
  }

  /**
   * @param {Head} head
   * @param {boolean} isCurrent
   */
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

  /** @param {string} id */
  pick(id) {
    this.close();
    this.on.open(id);
  }
}
