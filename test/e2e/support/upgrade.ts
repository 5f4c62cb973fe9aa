import { randomBytes } from "node:crypto";
import { request } from "node:http";

export interface Refusal {
  status: number;
  body: { error?: string; message?: string };
  version: string | undefined;
}

/** Asks for a WebSocket by hand, and reads the answer when it is no: WebSocket clients hide it. @throws when it is yes */
export function refusedUpgrade(url: string, token: string): Promise<Refusal> {
  const headers = {
    authorization: `Bearer ${token}`,
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": randomBytes(16).toString("base64"),
  };
  return new Promise((resolve, reject) => {
    const asked = request(url, { headers, timeout: 20_000 });
    asked.once("timeout", () => asked.destroy(new Error("no answer")));
    asked.once("error", reject);
    asked.once("upgrade", (_response, socket) => {
      socket.destroy();
      reject(new Error("the upgrade was accepted"));
    });
    asked.once("response", async (response) => {
      const body = JSON.parse((await response.toArray()).join("")) as Refusal["body"];
      resolve({ status: response.statusCode ?? 0, body, version: response.headers["sprite-version"] as string | undefined });
    });
    asked.end();
  });
}
