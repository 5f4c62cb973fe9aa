/** From a policy of the user's to the configuration of dnsmasq and of the packet filter, and back from their logs. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NetworkPolicy, networkPolicy } from "@hob/protocol";
import { formatAddress, parseAddress } from "../../../../packages/pilot/src/helper/ip-address.ts";
import { restrictRules } from "../../../../packages/pilot/src/network/egress-rules.ts";
import { parseRecord } from "../../../../packages/pilot/src/network/packet-log.ts";
import { QueryLog } from "../../../../packages/pilot/src/network/query-log.ts";
import { resolverConfig } from "../../../../packages/pilot/src/network/resolver-config.ts";
import { compileRules, verdictOf } from "../../../../packages/pilot/src/network/rules.ts";
import { mutatedJson, mutatedText } from "../mutate.ts";
import { ensure, type Target, target } from "../target.ts";

const UPSTREAM = "10.9.0.3";
const DOMAINS = [
  "example.com",
  "*.example.com",
  "*",
  "münchen.example",
  "a.b.c.d.example.",
  "xn--mnchen-3ya.example",
  "_srv._tcp.x",
  "1.2.3.4",
];

/** Every line that a configuration may hold; whatever else is in one was written by the policy's author. */
const OPTION =
  /^(?:no-[a-z]+|user=root|pid-file=\/run\/hob\/dnsmasq\.pid|bind-dynamic|interface=[a-z0-9]+|except-interface=lo|log-queries=extra|log-facility=-|cache-size=\d+|max-ttl=\d+|nftset=\/#\/4#inet#hob#allowed4,6#inet#hob#allowed6|server=(?:\/(?:\*\.)?[a-z0-9_.-]+\/)?(?:10\.9\.0\.3|127\.0\.0\.1#5399))$/;

/** One in so many configurations is shown to the real dnsmasq. */
const ASKED = 50;

interface PolicyInput {
  policy: unknown;
  name: string;
  asks: boolean;
}

const policies = target<PolicyInput>(
  { name: "network-policy", summary: "network rules, and the dnsmasq and nftables configuration made of them", weight: 3 },
  () => {
    const directory = mkdtempSync(join(tmpdir(), "hob-fuzz-"));
    const file = join(directory, "dnsmasq.conf");
    const hasDnsmasq = spawnSync("dnsmasq", ["--version"]).status === 0;
    return {
      input: (random) => ({
        policy: mutatedJson(random, {
          rules: Array.from({ length: 1 + random.below(4) }, () =>
            random.chance(0.1) ? { include: "defaults" } : { domain: mutatedText(random, DOMAINS), action: random.pick(["allow", "deny"]) },
          ),
        }),
        name: mutatedText(random, DOMAINS),
        asks: random.chance(1 / ASKED),
      }),
      run: ({ policy, name, asks }) => {
        const result = networkPolicy.safeParse(policy);
        if (!result.success) return "refused";
        const config = configurationOf(result.data, name);
        if (asks && hasDnsmasq) {
          writeFileSync(file, config);
          execFileSync("dnsmasq", ["--test", `--conf-file=${file}`], { stdio: "pipe" });
        }
        return "accepted";
      },
      [Symbol.asyncDispose]: async () => rmSync(directory, { recursive: true, force: true }),
    };
  },
);

function configurationOf({ rules }: NetworkPolicy, name: string): string {
  const compiled = compileRules(rules);
  verdictOf(compiled, name);
  const config = resolverConfig({ upstream: [UPSTREAM], rules: compiled, pidFile: "/run/hob/dnsmasq.pid" });
  for (const line of config.trimEnd().split("\n")) ensure(OPTION.test(line), () => `dnsmasq would read: ${JSON.stringify(line)}`);
  const own = rules.flatMap((rule) => ("domain" in rule && rule.domain !== "*" ? [rule.domain] : []));
  for (const domain of own) ensure(config.includes(`/${domain}/`), () => `${domain} is missing`);
  return config;
}

const ADDRESSES = ["1.2.3.4", "2001:db8::1", "fe80::1%eth0", "::ffff:1.2.3.4", "::"];
const RULE = /^(?:(?:flush (?:chain|set)|add rule|delete element|add element) inet hob )[A-Za-z0-9@{}., :/_]+$/;

const addresses = target<string[]>(
  { name: "addresses", summary: "addresses that a resolver answered, on their way to the packet filter", weight: 2 },
  () => ({
    input: (random) => Array.from({ length: 3 }, () => mutatedText(random, ADDRESSES)),
    run: (texts) => {
      for (const text of texts) {
        const bytes = parseAddress(text);
        if (bytes === undefined) continue;
        ensure(isIP(formatAddress(bytes)) !== 0, () => `${text} became ${formatAddress(bytes)}`);
        ensure(Buffer.from(parseAddress(formatAddress(bytes)) ?? []).equals(Buffer.from(bytes)), () => `${text} is another one`);
      }
      const rules = restrictRules(7, texts);
      for (const line of rules.trimEnd().split("\n")) ensure(RULE.test(line), () => `nft would read: ${JSON.stringify(line)}`);
      return texts.some((text) => isIP(text) !== 0) ? "accepted" : "refused";
    },
  }),
);

const LOG_LINES = [
  "dnsmasq[17]: started, version 2.89 cachesize 150",
  "dnsmasq[17]: 1 10.0.0.1/40000 query[A] example.com from 10.0.0.1",
  "dnsmasq[17]: 1 10.0.0.1/40000 reply example.com is 93.184.216.34",
  "dnsmasq[17]: 1 10.0.0.1/40000 reply example.com is 2606:2800:220:1::1",
  "dnsmasq[17]: 2 10.0.0.1/40000 query[type=65] x y from 1.1.1.1 from 10.0.0.1",
  "6,339,5140900,-;hob-blocked IN=spr0h OUT=eth0 SRC=10.0.0.1 DST=1.2.3.4 LEN=60 PROTO=TCP SPT=1 DPT=443 ",
];

const logs = target<string>(
  { name: "network-logs", summary: "lines of dnsmasq's query log and records of the kernel's log", weight: 3 },
  () => {
    const log = new QueryLog();
    return {
      input: (random) => mutatedText(random, LOG_LINES),
      run: (line) => {
        const event = log.read(line);
        if (event?.kind === "address") ensure(/^[0-9a-f.:]+$/.test(event.address), () => `an address ${JSON.stringify(event.address)}`);
        if (event?.kind === "query") ensure(event.name.length <= 1_024, () => "a name of more than 1024 characters");
        const packet = parseRecord(line);
        return (event === undefined || event.kind === "other") && packet === undefined ? "refused" : "accepted";
      },
    };
  },
);

export const networkTargets: readonly Target[] = [policies, addresses, logs];
