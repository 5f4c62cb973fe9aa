import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BLOCK_BYTES } from "@hob/storage";
import { type MeasuredWorkload, measureWorkloads } from "../measure-workloads.ts";
import type { BenchContext, Part } from "../part.ts";
import { notMeasured, type Row } from "../stats.ts";
import { BenchDaemon } from "../subjects/daemon.ts";
import { podmanCommit } from "../subjects/podman-commit.ts";
import { S3BACKER_BLOCK_BYTES, S3Backer } from "../subjects/s3backer.ts";
import { openDirectory, saveStates, storeOf } from "../volume-states.ts";

const NAME = "workloads";

/** What three workloads bring into the store for what they write, beside what others would make of the same data. */
export const amplificationPart: Part = {
  name: "amplification",
  title: "upload amplification of three workloads",
  boundMinutes: { quick: 10, full: 30 },
  async run(context) {
    const directory = context.states ?? (await temporary(context));
    await mkdir(directory, { recursive: true });
    // Left for the part `chunks` if it was asked for, and then of this run alone.
    await rm(storeOf(directory), { recursive: true, force: true });
    const daemon = await BenchDaemon.start(context, { store: storeOf(directory) });
    const sprite = await daemon.create(NAME);
    const store = await openDirectory(storeOf(directory));
    const { measured, missing } = await measureWorkloads(context, daemon, sprite, store);
    await saveStates(
      directory,
      measured.map(({ name, before, after }) => ({ name, before, after })),
    );
    const rows = measured.flatMap(rowsOf);
    for (const [name, why] of missing) rows.push(notMeasured(name, "MB", why));
    context.progress("podman commit");
    const npm = measured.find(({ name }) => name === "npm install");
    if (npm !== undefined) rows.push(...besidePodman(npm, await podmanCommit(sprite, "/home/sprite/app")));
    await daemon.pause();
    rows.push(...(await besideS3Backer(context, measured)));
    return rows;
  },
};

async function temporary(context: BenchContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "hob-bench-states-"));
  context.defer(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

const mb = (bytes: number): number => bytes / 1e6;

function rowsOf({ name, runMs, writtenBytes, uploaded, takenMs, durableMs, changedBytes, changedBlockBytes }: MeasuredWorkload): Row[] {
  return [
    {
      what: `${name}: uploaded, before compression`,
      value: mb(uploaded.chunks * BLOCK_BYTES),
      unit: "MB",
      n: 1,
      beside: { what: "written to the volume", value: mb(writtenBytes) },
      budget: { kind: "ratio", limit: 1.3 },
      note: `in ${(runMs / 1000).toFixed(0)} s and as many rounds of ten seconds`,
    },
    {
      what: `${name}: blocks that differ at the end`,
      value: mb(changedBlockBytes),
      unit: "MB",
      n: 1,
      beside: { what: "4 KiB pages that differ", value: mb(changedBytes) },
    },
    {
      what: `${name}: uploaded as stored, with maps`,
      value: mb(uploaded.bytes),
      unit: "MB",
      n: 1,
      beside: { what: "written to the volume", value: mb(writtenBytes) },
      note: `${uploaded.objects} objects`,
    },
    { what: `${name}: checkpoint, until it is durable`, value: durableMs, unit: "ms", n: 1, note: `taken after ${takenMs.toFixed(0)} ms` },
  ];
}

function besidePodman({ takenMs, durableMs, uploaded }: MeasuredWorkload, commit: { ms: number; imageMb: number }): Row[] {
  const what = "podman commit of the same tree in the sprite";
  return [
    { what: "npm install: checkpoint, until it is taken", value: takenMs, unit: "ms", n: 1, beside: { what, value: commit.ms } },
    { what: "npm install: checkpoint, until it is durable", value: durableMs, unit: "ms", n: 1, beside: { what, value: commit.ms } },
    {
      what: "npm install: in the store",
      value: mb(uploaded.bytes),
      unit: "MB",
      n: 1,
      beside: { what: "its image, on the sprite's own disk", value: commit.imageMb },
    },
  ];
}

async function besideS3Backer(context: BenchContext, measured: readonly MeasuredWorkload[]): Promise<Row[]> {
  context.progress("s3backer");
  const rows: Row[] = [];
  for (const { name, changes, uploaded } of measured) {
    const backer = await S3Backer.start(context);
    if (typeof backer === "string") return [notMeasured("the same changes on s3backer", "", backer)];
    const objects = await backer.replay(changes);
    const size = `${S3BACKER_BLOCK_BYTES / 1024} KiB`;
    rows.push({
      what: `${name}: objects written`,
      value: uploaded.objects,
      unit: "",
      n: 1,
      beside: { what: `s3backer, ${size} an object, what differs at the end`, value: objects },
      note: `there ${mb(objects * S3BACKER_BLOCK_BYTES).toFixed(0)} MB before compression`,
    });
  }
  return rows;
}
