import { WebSocket } from "ws";

const TIMEOUT_MS = 60_000;
const ROUNDS = 3;

/**
 * Runs small commands in a VM that is about to become a template, through the way every exec takes: what they load and
 * compile is then in the memory that clones start from.
 */
export async function warmUp(pilotPort: number, token: string): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    await run(pilotPort, token, ["/bin/true"]);
    await run(pilotPort, token, ["bash", "-lc", "id; ls / /home/sprite; cat /proc/uptime; command -v node python3 git"]);
  }
}

function run(port: number, token: string, argv: readonly string[]): Promise<void> {
  const query = argv.map((argument) => `cmd=${encodeURIComponent(argument)}`).join("&");
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/v1/sprites/template/exec?${query}`, {
      headers: { authorization: `Bearer ${token}` },
      perMessageDeflate: false,
    });
    const timer = setTimeout(() => socket.terminate(), TIMEOUT_MS);
    socket.on("message", () => {});
    socket.once("error", reject);
    socket.once("close", (code) => {
      clearTimeout(timer);
      if (code === 1000) resolve();
      else reject(new Error(`warm up the template: the session closed with ${code}`));
    });
  });
}
