/** What a person chose, kept in this browser; the key only until the tab closes, unless told to remember it. */

/**
 * @import { Body } from "./api.js"
 *
 * @typedef {{ model: string, temperature: string, maxTokens: string, topP: string, system: string,
 *   theme: string, aloud: string, voice: string, language: string }} Values - as they are typed, empty for the server's default
 */

const PLACE = "edge.settings";
const KEY_PLACE = "edge.key";
/** @type {Values} */
const NONE = {
  model: "",
  temperature: "",
  maxTokens: "",
  topP: "",
  system: "",
  theme: "system",
  aloud: "never",
  voice: "",
  language: "",
};

/** What stands in for a storage that is closed to the page: things last as long as the page. */
class Held {
  constructor() {
    /** @type {Map<string, string>} */
    this.texts = new Map();
  }

  /** @param {string} key */
  getItem(key) {
    return this.texts.get(key) ?? null;
  }

  /**
   * @param {string} key
   * @param {string} text
   */
  setItem(key, text) {
    this.texts.set(key, text);
  }

  /** @param {string} key */
  removeItem(key) {
    this.texts.delete(key);
  }
}

/**
 * Reads and writes a storage that may be closed.
 *
 * @param {"localStorage" | "sessionStorage"} name
 */
function reachable(name) {
  try {
    const storage = window[name];
    storage.setItem("edge.probe", "1");
    storage.removeItem("edge.probe");
    return storage;
  } catch {
    return new Held();
  }
}

export class Settings {
  constructor() {
    this.local = reachable("localStorage");
    this.session = reachable("sessionStorage");
    this.values = { ...NONE, ...this.stored() };
  }

  /** @returns {Partial<Values>} */
  stored() {
    try {
      const found = JSON.parse(this.local.getItem(PLACE) ?? "{}");
      return Object.fromEntries(
        Object.entries(found).filter(([name, value]) => name in NONE && typeof value === "string"),
      );
    } catch {
      return {};
    }
  }

  /** @param {Partial<Values>} values */
  change(values) {
    Object.assign(this.values, values);
    this.local.setItem(PLACE, JSON.stringify(this.values));
  }

  get key() {
    return this.session.getItem(KEY_PLACE) ?? this.local.getItem(KEY_PLACE) ?? "";
  }

  get remembersKey() {
    return this.local.getItem(KEY_PLACE) !== null;
  }

  /**
   * @param {string} key - empty to forget it
   * @param {boolean} remember - longer than until the tab closes
   */
  setKey(key, remember) {
    this.session.removeItem(KEY_PLACE);
    this.local.removeItem(KEY_PLACE);
    if (key) (remember ? this.local : this.session).setItem(KEY_PLACE, key);
  }

  showTheme() {
    const { theme } = this.values;
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }

  /** Changes from light to dark or back, whichever of them the device would show. */
  toggleTheme() {
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    const shown = document.documentElement.dataset.theme ?? (isDark ? "dark" : "light");
    this.change({ theme: shown === "dark" ? "light" : "dark" });
    this.showTheme();
  }

  /**
   * The fields of a request that were set; the server has the defaults of all others.
   *
   * @returns {Pick<Body, "temperature" | "max_tokens" | "top_p">}
   */
  fields() {
    const { temperature, maxTokens, topP } = this.values;
    const all = { temperature: number(temperature), max_tokens: number(maxTokens), top_p: number(topP) };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
  }
}

/** @param {string} text */
const number = (text) => (text.trim() === "" || Number.isNaN(Number(text)) ? null : Number(text));
