/** Files as they are attached: which kind they are, made smaller or turned where the server could not read them. */

import { newId } from "./dom.js";
import { wavOf } from "./wav.js";

/**
 * @import { Medium, MediumKind } from "./conversation.js"
 *
 * @typedef {{ medium: Medium, blob: Blob }} Attached
 * @typedef {{ blob: Blob, note: string }} Readable - note: what was done to it, or its size in pixels
 */

const MAX_FILE_BYTES = 29 << 20; // what fits into a request of 40 MiB once it is base64
const MAX_IMAGE_BYTES = 6 << 20;
const MAX_IMAGE_PX = 24_000_000;
const SIDE_PX = 3072; // of an image that was made smaller
const IMAGES_READ = new Set(["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"]);
const AUDIO_READ = new Set([
  "audio/wav",
  "audio/x-wav",
  "audio/wave",
  "audio/mpeg",
  "audio/mp3",
  "audio/flac",
  "audio/x-flac",
  "audio/ogg",
]);
/** @type {Record<MediumKind, string[]>} */
const ENDINGS = {
  pdf: ["pdf"],
  image: ["heic"],
  video: ["mp4", "mov", "mkv", "webm", "avi", "m4v"],
  audio: ["wav", "mp3", "m4a", "flac", "ogg", "opus"],
};
const KINDS = /** @type {MediumKind[]} */ (Object.keys(ENDINGS));
/** @type {Record<MediumKind, string>} */
const TYPES = { image: "image/jpeg", video: "video/mp4", audio: "audio/wav", pdf: "application/pdf" };

export const ACCEPTED = "image/*,video/*,audio/*,application/pdf,.mkv,.flac";
/** @type {Record<MediumKind, string>} */
export const KIND_NAMES = { image: "Picture", video: "Video", audio: "Audio", pdf: "PDF" };

/**
 * What a file is to the server; null for what it does not accept.
 *
 * @param {File} file
 * @returns {MediumKind | null}
 */
export function kindOf(file) {
  if (file.type === "application/pdf") return "pdf";
  const family = file.type.split("/")[0];
  const ending = file.name.split(".").at(-1)?.toLowerCase() ?? "";
  const told = KINDS.find((kind) => kind !== "pdf" && kind === family);
  return told ?? KINDS.find((kind) => ENDINGS[kind].includes(ending)) ?? null;
}

/**
 * A file as a medium and its bytes. Throws: Error in plain words.
 *
 * @param {File} file
 * @param {string} name
 * @returns {Promise<Attached>}
 */
export async function attachable(file, name = file.name) {
  const kind = kindOf(file);
  if (kind === null) throw new Error(`${name}: this is neither a picture, a video, audio nor a PDF.`);
  if (file.size === 0) throw new Error(`${name}: the file is empty.`);
  const { blob, note } = await readable(kind, file, name);
  if (blob.size > MAX_FILE_BYTES)
    throw new Error(
      `${name}: it has ${megabytes(blob.size)}; the server accepts at most ${megabytes(MAX_FILE_BYTES)}.`,
    );
  const type = blob.type || TYPES[kind];
  return { medium: { id: newId(), kind, name, type, size: blob.size, note }, blob };
}

/**
 * A blob as a data: URL.
 *
 * @param {Blob} blob
 * @param {string} type
 * @returns {Promise<string>}
 */
export function dataUrl(blob, type) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    const head = `data:${type.split(";")[0]};base64,`;
    reader.onload = () => resolve(String(reader.result).replace(/^data:[^,]*,/, head));
    reader.onerror = () => reject(new Error("A file of this conversation cannot be read any more."));
    reader.readAsDataURL(blob);
  });
}

/**
 * The bytes of a base64 data: URL. Throws: Error in plain words.
 *
 * @param {string} url
 */
export function blobOf(url) {
  const [head = "", data = ""] = url.split(",", 2);
  try {
    return new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], {
      type: head.slice(5).split(";")[0] ?? "",
    });
  } catch {
    throw new Error("a picture, video, audio or PDF in it is damaged");
  }
}

/** @param {number} bytes */
export function megabytes(bytes) {
  return bytes < 100_000 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * @param {MediumKind} kind
 * @param {File} file
 * @param {string} name
 * @returns {Promise<Readable>}
 */
async function readable(kind, file, name) {
  if (kind === "image") return readableImage(file, name);
  const asItIs = kind !== "audio" || AUDIO_READ.has(file.type);
  if (asItIs) return { blob: file, note: "" };
  const blob = await wavOf(file).catch(() => null); // what the browser cannot decode, the server may
  return blob ? { blob, note: "turned into WAV" } : { blob: file, note: "" };
}

/**
 * An image as it is, or drawn anew where it is too large or in a form that the server does not read.
 *
 * @param {File} file
 * @param {string} name
 * @returns {Promise<Readable>}
 */
async function readableImage(file, name) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap === null) throw new Error(`${name}: this browser cannot open it as a picture.`);
  const { width, height } = bitmap;
  const isSmall = file.size <= MAX_IMAGE_BYTES && width * height <= MAX_IMAGE_PX;
  if (isSmall && IMAGES_READ.has(file.type)) {
    bitmap.close();
    return { blob: file, note: `${width} × ${height}` };
  }
  const scale = isSmall ? 1 : Math.min(1, SIDE_PX / Math.max(width, height));
  const drawn = await jpegOf(bitmap, Math.round(width * scale), Math.round(height * scale));
  return {
    blob: drawn,
    note:
      scale < 1
        ? `${Math.round(width * scale)} × ${Math.round(height * scale)}, made smaller from ${width} × ${height}`
        : `${width} × ${height}, turned into JPEG`,
  };
}

/**
 * Draws an image, a video's frame or a bitmap as JPEG.
 *
 * @param {CanvasImageSource} source
 * @param {number} width
 * @param {number} height
 * @returns {Promise<Blob>}
 */
export async function jpegOf(source, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, width), height: Math.max(1, height) });
  const context = canvas.getContext("2d");
  if (context) {
    context.fillStyle = "white"; // what was transparent would be black
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(source, 0, 0, width, height);
  }
  /** @type {Blob | null} */
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  if (context === null || blob === null) throw new Error("This browser cannot make a picture of that size.");
  return blob;
}
