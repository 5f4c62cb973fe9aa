import assert from "node:assert/strict";
import type { Sprite } from "@fly/sprites";

export interface Message {
  type: string;
  data?: string;
  error?: string;
  id?: string;
  pauseMs?: number;
  undoId?: string;
}

interface MessageStream {
  processAll(handler: (message: Message) => void): Promise<void>;
}

/** All messages of a checkpoint or a restore; the last says how it went. */
export async function messagesOf(stream: Promise<unknown>): Promise<Message[]> {
  const messages: Message[] = [];
  await ((await stream) as MessageStream).processAll((message) => {
    messages.push(message);
  });
  return messages;
}

/** @returns the last message, which must be of success */
export async function completed(stream: Promise<unknown>): Promise<Message> {
  const messages = await messagesOf(stream);
  const last = messages.at(-1);
  assert.equal(last?.type, "complete", JSON.stringify(messages));
  return last as Message;
}

/** Takes a checkpoint as a program does that knows the public API alone. @returns its id */
export async function checkpoint(sprite: Sprite, comment?: string): Promise<string> {
  const messages = await messagesOf(sprite.createCheckpoint(comment));
  assert.equal(messages.at(-1)?.type, "complete", JSON.stringify(messages));
  return messages.map(({ data }) => /^ {2}ID: (\S+)$/.exec(data ?? "")?.[1]).find((id) => id !== undefined) ?? assert.fail("no id");
}
