/** Conversations and their media, kept in this browser; in memory alone where it keeps nothing. */

/**
 * @import { Conversation, Head, Message } from "./conversation.js"
 *
 * @typedef {object} Records - what each part of the database holds
 * @property {Head} heads
 * @property {{ id: string, messages: Message[] }} histories
 * @property {{ id: string, conversation: string, blob: Blob }} media
 * @typedef {keyof Records} Name
 * @typedef {{ [N in Name]: Map<string, Records[N]> }} Memory
 * @typedef {{ [N in Name]?: Records[N][] }} Written
 */

/** @type {Name[]} */
const NAMES = ["heads", "histories", "media"];

/** Opens the database. A browser that closes it to the page gets a store that lasts as long as the page. */
export async function openStore() {
  try {
    return new Store(await opened());
  } catch {
    return new Store(null);
  }
}

/** @returns {Promise<IDBDatabase>} */
function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("edge", 1);
    request.onupgradeneeded = () => {
      for (const name of NAMES) {
        const made = request.result.createObjectStore(name, { keyPath: "id" });
        if (name === "media") made.createIndex("conversation", "conversation");
      }
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds an older version"));
  });
}

export class Store {
  /** @param {IDBDatabase | null} database */
  constructor(database) {
    this.database = database;
    /** @type {Memory} */
    this.memory = { heads: new Map(), histories: new Map(), media: new Map() };
    // A newer version in another tab must not wait for this one.
    if (database) database.onversionchange = () => database.close();
  }

  get keeps() {
    return this.database !== null;
  }

  /** The conversations without their messages, the newest first. */
  async heads() {
    const found = await this.all("heads");
    return found.sort((a, b) => b.updated - a.updated);
  }

  /**
   * A conversation with its messages, undefined when there is none.
   *
   * @param {string} id
   * @returns {Promise<Conversation | undefined>}
   */
  async load(id) {
    const [head, history] = [await this.get("heads", id), await this.get("histories", id)];
    return head && { ...head, messages: history?.messages ?? [] };
  }

  /**
   * Writes a conversation; returns whether the browser kept it: its space may be used up.
   *
   * @param {Conversation} conversation
   */
  save({ messages, ...head }) {
    return this.kept({ heads: [head], histories: [{ id: head.id, messages }] });
  }

  /**
   * Writes a medium; where the browser does not keep it, it lasts as long as the page. Returns whether it did.
   *
   * @param {string} conversation - its id
   * @param {string} id
   * @param {Blob} blob
   */
  async saveMedia(conversation, id, blob) {
    const record = { id, conversation, blob };
    this.memory.media.set(id, record); // readable while it is written
    const kept = await this.kept({ media: [record] });
    if (kept) this.memory.media.delete(id);
    return kept;
  }

  /** @param {string} id */
  async blob(id) {
    return (this.memory.media.get(id) ?? (await this.get("media", id)))?.blob;
  }

  /** @param {string} id */
  async remove(id) {
    if (!this.database) {
      for (const [key, value] of this.memory.media) if (value.conversation === id) this.memory.media.delete(key);
      this.memory.heads.delete(id);
      this.memory.histories.delete(id);
      return;
    }
    const transaction = this.database.transaction(NAMES, "readwrite");
    transaction.objectStore("heads").delete(id);
    transaction.objectStore("histories").delete(id);
    const media = transaction.objectStore("media");
    const keys = await asked(media.index("conversation").getAllKeys(id));
    for (const key of keys) media.delete(key);
    await finished(transaction);
  }

  /** @param {string[]} ids */
  async removeMedia(ids) {
    for (const id of ids) this.memory.media.delete(id);
    if (!this.database) return;
    const transaction = this.database.transaction("media", "readwrite");
    for (const id of ids) transaction.objectStore("media").delete(id);
    await finished(transaction);
  }

  async clear() {
    for (const name of NAMES) this.memory[name].clear();
    if (!this.database) return;
    const transaction = this.database.transaction(NAMES, "readwrite");
    for (const name of NAMES) transaction.objectStore(name).clear();
    await finished(transaction);
  }

  /**
   * @template {Name} N
   * @param {N} name
   * @returns {Promise<Records[N][]>}
   */
  async all(name) {
    if (!this.database) return [...this.memory[name].values()];
    return asked(this.database.transaction(name).objectStore(name).getAll());
  }

  /**
   * @template {Name} N
   * @param {N} name
   * @param {string} id
   * @returns {Promise<Records[N] | undefined>}
   */
  async get(name, id) {
    if (!this.database) return this.memory[name].get(id);
    return asked(this.database.transaction(name).objectStore(name).get(id));
  }

  /**
   * Writes records; what the browser does not keep is held in memory, and false says so.
   *
   * @param {Written} records
   */
  async kept(records) {
    try {
      if (this.database) {
        await put(this.database, records);
        return true;
      }
    } catch {
      // Its space is used up, or it was closed meanwhile.
    }
    for (const name of NAMES) this.hold(name, records[name] ?? []);
    return false;
  }

  /**
   * @template {Name} N
   * @param {N} name
   * @param {Records[N][]} records
   */
  hold(name, records) {
    for (const record of records) this.memory[name].set(record.id, structuredClone(record));
  }
}

/**
 * @param {IDBDatabase} database
 * @param {Written} records
 */
function put(database, records) {
  const transaction = database.transaction(Object.keys(records), "readwrite");
  for (const [name, list] of Object.entries(records))
    for (const record of list) transaction.objectStore(name).put(record);
  return finished(transaction);
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function asked(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * @param {IDBTransaction} transaction
 * @returns {Promise<void>}
 */
function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}
