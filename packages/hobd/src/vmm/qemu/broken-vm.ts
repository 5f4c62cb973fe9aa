/** "an internal error that prevents further guest execution has occurred", qapi/run-state.json */
const BROKEN = "internal-error";

/**
 * Ends a VM that has stopped for good, so that its sprite starts anew: nothing but a reset would let it go on. Under KVM that comes of
 * memory for which the host's disk has no room: where an emulated CPU gets SIGBUS, KVM_RUN fails with EFAULT.
 */
export async function endIfBroken(vm: { status: () => Promise<string>; kill: () => Promise<void> }): Promise<void> {
  if ((await vm.status().catch(() => "gone")) === BROKEN) await vm.kill();
}
