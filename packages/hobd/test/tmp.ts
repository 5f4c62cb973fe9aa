import { WebSocket } from "ws";
import { TestPilot } from "./support/test-pilot.ts";
import { ChildDaemon } from "./support/child-daemon.ts";
import { temporaryHome } from "./support/test-daemon.ts";
const MB=2**20;
await using home = await temporaryHome();
await using pilot = await TestPilot.start();
await using child = await ChildDaemon.start({home: home.path, pilotPort: pilot.port}); await child.create("one");
for (const deflate of [false, true]) {
  const ws = new WebSocket(`${child.up.url.replace("http","ws")}/v1/sprites/one/ws`, { headers: {Authorization: `Bearer ${child.up.token}`}, perMessageDeflate: deflate });
  await new Promise((r) => ws.once("open", r));
  ws.pause();
  const chunk = Buffer.alloc(MB); let done = 0; const t=Date.now();
  for (let i = 0; i < 200; i++) ws.send(chunk, () => (done += 1));
  for (let i=0;i<8;i++){ await new Promise((r) => setTimeout(r, 300)); console.log(deflate, Date.now()-t, done, child.rssBytes/MB|0); }
  ws.terminate(); await new Promise((r) => setTimeout(r, 500));
}
process.exit(0);
