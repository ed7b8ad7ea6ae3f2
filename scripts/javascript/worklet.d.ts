// What the audio thread offers to its scripts; the library of the DOM describes the window's side alone.

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}

declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;
