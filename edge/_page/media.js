/** Files as they are attached: which kind they are, made smaller or turned where the server could not read them. */

import { newId } from "./dom.js";
import { wavOf } from "./wav.js";

const MAX_FILE_BYTES = 29 << 20; // what fits into a request of 40 MiB once it is base64
const MAX_PICTURE_BYTES = 6 << 20;
const MAX_PICTURE_PX = 24_000_000;
const SIDE_PX = 3072; // of a picture that was made smaller
const READ_AS_THEY_ARE = {
  image: new Set(["image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"]),
  audio: new Set([
    "audio/wav",
    "audio/x-wav",
    "audio/wave",
    "audio/mpeg",
    "audio/mp3",
    "audio/flac",
    "audio/x-flac",
    "audio/ogg",
  ]),
};
const ENDINGS = new Map([
  ["pdf", "pdf"],
  ["heic", "image"],
  ...["mp4", "mov", "mkv", "webm", "avi", "m4v"].map((ending) => [ending, "video"]),
  ...["wav", "mp3", "m4a", "flac", "ogg", "opus"].map((ending) => [ending, "audio"]),
]);

export const ACCEPTED = "image/*,video/*,audio/*,application/pdf,.mkv,.flac";
export const KIND_NAMES = { image: "Picture", video: "Video", audio: "Sound", pdf: "PDF" };

/** What a file is to the server: image, video, audio or pdf; null for anything else. */
export function kindOf(file) {
  if (file.type === "application/pdf") return "pdf";
  const kind = file.type.split("/")[0];
  if (["image", "video", "audio"].includes(kind)) return kind;
  return ENDINGS.get(file.name.split(".").at(-1).toLowerCase()) ?? null;
}

/** A file as a medium and its bytes: {medium, blob}. Throws: Error in plain words. */
export async function attachable(file, name = file.name) {
  const kind = kindOf(file);
  if (kind === null) throw new Error(`${name}: this is neither a picture, a video, a sound nor a PDF.`);
  if (file.size === 0) throw new Error(`${name}: the file is empty.`);
  const { blob, note } = await readable(kind, file, name);
  if (blob.size > MAX_FILE_BYTES)
    throw new Error(
      `${name}: it has ${megabytes(blob.size)}; the server takes at most ${megabytes(MAX_FILE_BYTES)}.`,
    );
  const type =
    blob.type || { image: "image/jpeg", video: "video/mp4", audio: "audio/wav", pdf: "application/pdf" }[kind];
  return { medium: { id: newId(), kind, name, type, size: blob.size, note }, blob };
}

/** A blob as a data: URL. */
export function dataUrl(blob, type) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.replace(/^data:[^,]*,/, `data:${type.split(";")[0]};base64,`));
    reader.onerror = () => reject(new Error("A file of this conversation cannot be read any more."));
    reader.readAsDataURL(blob);
  });
}

/** The bytes of a base64 data: URL. Throws: Error in plain words. */
export function blobOf(url) {
  const [head, data] = url.split(",", 2);
  try {
    return new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], {
      type: head.slice(5).split(";")[0],
    });
  } catch {
    throw new Error("a picture, video, sound or PDF in it is damaged");
  }
}

export function megabytes(bytes) {
  return bytes < 100_000 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

async function readable(kind, file, name) {
  if (kind === "image") return picture(file, name);
  const asItIs = kind !== "audio" || READ_AS_THEY_ARE.audio.has(file.type);
  if (asItIs) return { blob: file, note: "" };
  const blob = await wavOf(file).catch(() => null); // what the browser cannot decode, the server may
  return blob ? { blob, note: "turned into WAV" } : { blob: file, note: "" };
}

/** A picture as it is, or drawn anew where it is too large or in a form that the server does not read. */
async function picture(file, name) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap === null) throw new Error(`${name}: this browser cannot open it as a picture.`);
  const { width, height } = bitmap;
  const isSmall = file.size <= MAX_PICTURE_BYTES && width * height <= MAX_PICTURE_PX;
  if (isSmall && READ_AS_THEY_ARE.image.has(file.type)) {
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

/** Draws a picture, a video's frame or a bitmap as JPEG. */
export async function jpegOf(source, width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, width), height: Math.max(1, height) });
  const context = canvas.getContext("2d");
  context.fillStyle = "white"; // what was transparent would be black
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  if (blob === null) throw new Error("This browser cannot make a picture of that size.");
  return blob;
}
