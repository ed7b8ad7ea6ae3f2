/** Conversations and their media, kept in this browser; in memory alone where it keeps nothing. */

const NAMES = ["heads", "histories", "media"];

/** Opens the database. A browser that closes it to the page gets a store that lasts as long as the page. */
export async function openStore() {
  try {
    return new Store(await opened());
  } catch {
    return new Store(null);
  }
}

function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("edge", 1);
    request.onupgradeneeded = () => {
      for (const name of NAMES) request.result.createObjectStore(name, { keyPath: "id" });
      request.transaction.objectStore("media").createIndex("conversation", "conversation");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab holds an older version"));
  });
}

class Store {
  constructor(database) {
    this.database = database;
    this.memory = Object.fromEntries(NAMES.map((name) => [name, new Map()]));
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

  /** A conversation with its messages, undefined when there is none. */
  async load(id) {
    const [head, history] = [await this.get("heads", id), await this.get("histories", id)];
    return head && { ...head, messages: history?.messages ?? [] };
  }

  /** Writes a conversation; returns whether the browser took it: its space may be used up. */
  save({ messages, ...head }) {
    return this.kept({ heads: [head], histories: [{ id: head.id, messages }] });
  }

  /** Writes a medium; where the browser does not take it, it lasts as long as the page. Returns whether it did. */
  async saveMedia(conversation, id, blob) {
    const record = { id, conversation, blob };
    this.memory.media.set(id, record); // at hand while it is written
    const kept = await this.kept({ media: [record] });
    if (kept) this.memory.media.delete(id);
    return kept;
  }

  async blob(id) {
    return (this.memory.media.get(id) ?? (await this.get("media", id)))?.blob;
  }

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

  async all(name) {
    if (!this.database) return [...this.memory[name].values()];
    return asked(this.database.transaction(name).objectStore(name).getAll());
  }

  async get(name, id) {
    if (!this.database) return this.memory[name].get(id);
    return asked(this.database.transaction(name).objectStore(name).get(id));
  }

  async kept(records) {
    try {
      if (this.database) return await this.put(records);
    } catch {
      // What was not written is held in memory below, and the caller says so.
    }
    for (const [name, list] of Object.entries(records))
      for (const record of list) this.memory[name].set(record.id, structuredClone(record));
    return false;
  }

  async put(records) {
    const transaction = this.database.transaction(Object.keys(records), "readwrite");
    for (const [name, list] of Object.entries(records))
      for (const record of list) transaction.objectStore(name).put(record);
    await finished(transaction);
    return true;
  }
}

function asked(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
    transaction.onerror = () => reject(transaction.error);
  });
}
