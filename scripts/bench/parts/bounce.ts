import type { Part } from "../part.ts";
import { Series } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import { timeMs } from "../subjects/machine.ts";

/** The inner container down and up again. */
export const bouncePart: Part = {
  name: "bounce",
  title: "the inner container anew",
  boundMinutes: { quick: 3, full: 5 },
  async run(context) {
    const n = context.quick ? 5 : 20;
    const daemon = await BenchDaemon.start(context);
    const sprite = await daemon.create("bounce");
    const [answered, container, exec] = [new Series(), new Series(), new Series()];
    context.progress(`${n} bounces`);
    for (let round = -1; round < n; round++) {
      const start = performance.now();
      const { totalMs } = await daemon.request<{ totalMs: number }>("POST", "/v1/sprites/bounce/bounce");
      await sprite.execFile("true");
      const answeredMs = performance.now() - start;
      const execMs = await timeMs(() => sprite.execFile("true"));
      if (round < 0) continue;
      answered.add(answeredMs);
      container.add(totalMs);
      exec.add(execMs);
    }
    const beside = { what: "that exec without a bounce", value: exec.p50 };
    return [
      { what: "bounce, until an exec answers, p50", value: answered.p50, unit: "ms", n, beside, budget: { kind: "value", limit: 800 } },
      { what: "bounce, container down and up, p50", value: container.p50, unit: "ms", n },
    ];
  },
};
