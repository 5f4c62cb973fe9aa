import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { NetworkPolicy as Policy } from "@hob/protocol";
import { AddressBook } from "./address-book.ts";
import type { AuditLog } from "./audit-log.ts";
import { holdRules, openRules, renewRules, restrictRules } from "./egress-rules.ts";
import type { Firewall } from "./firewall.ts";
import { PacketLog } from "./packet-log.ts";
import type { ResolverEvent } from "./query-log.ts";
import type { Refuser } from "./refuser.ts";
import type { Resolver } from "./resolver.ts";
import { type CompiledRules, compileRules, verdictOf } from "./rules.ts";

const RENEW_DELAY_MS = 2_000;

export interface NetworkPolicyParts {
  firewall: Pick<Firewall, "apply">;
  resolver: Pick<Resolver, "start" | "onEvent">;
  refuser: Pick<Refuser, "start" | "stop">;
  audit: Pick<AuditLog, "record">;
  /** folder that the sprite sees as /.sprite/policy */
  mirror: string;
  /** milliseconds since the kernel's start */
  uptimeMs: () => number | Promise<number>;
  packets?: PacketLog;
}

/**
 * The network policy in force. A change holds all traffic, exchanges the resolver, and lets traffic go by the new rules:
 * at no time is anything reachable that neither policy allows. Calls must not overlap.
 */
export class NetworkPolicy {
  readonly #parts: NetworkPolicyParts;
  readonly #book = new AddressBook();
  readonly #packets: PacketLog;
  readonly #toRenew = new Set<string>();
  #rules: CompiledRules | undefined;
  #generation = 0;
  /** the policy that is wholly in force, as text; undefined: none is yet, or a change failed half-way */
  #inForce: string | undefined;

  constructor(parts: NetworkPolicyParts) {
    this.#parts = parts;
    this.#packets =
      parts.packets ??
      new PacketLog(({ protocol, address, port }) =>
        parts.audit.record({ type: "packet", action: "deny", protocol, address, ...(port === undefined ? {} : { port }) }),
      );
    parts.resolver.onEvent((event) => this.#onEvent(event));
  }

  /**
   * Puts a policy in force; when it returns, it is. If it fails, nothing passes until a later call succeeds, unless the
   * policy before has not been touched yet.
   * @param untouched the packet filter is as a new VM has it: without a restriction there is nothing to change in it
   */
  async apply(policy: Policy, untouched = false): Promise<void> {
    const text = JSON.stringify(policy);
    if (text === this.#inForce) return;
    const rules = policy.rules.length === 0 ? undefined : compileRules(policy.rules);
    const unchanged = untouched && rules === undefined;
    this.#inForce = undefined;
    if (unchanged) await this.#parts.resolver.start();
    else await this.#change(rules);
    this.#rules = rules;
    await this.#mirror(policy);
    this.#inForce = text;
    if (!unchanged) this.#parts.audit.record({ type: "policy", count: policy.rules.length });
  }

  async #change(rules: CompiledRules | undefined): Promise<void> {
    const { firewall, resolver, refuser } = this.#parts;
    await firewall.apply(holdRules());
    if (rules !== undefined) await refuser.start();
    // Before the end of this, all that the resolver before it answered has been noted.
    await resolver.start(rules);
    if (rules === undefined) {
      await firewall.apply(openRules());
      refuser.stop();
      this.#packets.stop();
      return;
    }
    // Grows with the kernel's clock, so that it is new also to a pilot that has just been started.
    this.#generation = Math.max(this.#generation + 1, Math.floor((await this.#parts.uptimeMs()) / 100) % 0x7fff_0000);
    await firewall.apply(restrictRules(this.#generation, this.#book.allowed(rules, performance.now())));
    this.#packets.start();
  }

  /** Replaced as a whole: whoever reads it in the sprite sees the old one or the new one. */
  async #mirror(policy: Policy): Promise<void> {
    const { mirror } = this.#parts;
    await mkdir(mirror, { recursive: true, mode: 0o755 });
    const fresh = join(mirror, ".network.json");
    await writeFile(fresh, `${JSON.stringify(policy, undefined, 2)}\n`, { mode: 0o444 });
    await rename(fresh, join(mirror, "network.json"));
  }

  #onEvent(event: ResolverEvent): void {
    if (event.kind === "query" && this.#rules !== undefined) {
      const { action, rule } = verdictOf(this.#rules, event.name);
      this.#parts.audit.record({ type: "lookup", action, name: event.name, query: event.type, ...(rule === undefined ? {} : { rule }) });
    }
    if (event.kind === "address" && this.#book.note(event.name, event.address, performance.now())) this.#renew(event.address);
  }

  /** Several at a time: each start of nft(8) is dear. The addresses have half of their time left. */
  #renew(address: string): void {
    if (this.#rules === undefined) return;
    this.#toRenew.add(address);
    if (this.#toRenew.size > 1) return;
    setTimeout(() => {
      const addresses = [...this.#toRenew];
      this.#toRenew.clear();
      if (this.#rules !== undefined) this.#parts.firewall.apply(renewRules(addresses)).catch(() => {});
    }, RENEW_DELAY_MS).unref();
  }
}
