import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync, unwatchFile, watchFile } from "node:fs";
import { createSecureContext } from "node:tls";
import { HobError } from "@hob/protocol";

/** How often the files are looked at. Looking finds every way of replacing them: links, renames, mounts. */
const LOOK_INTERVAL_MS = 5_000;

export interface TlsFiles {
  certFile: string;
  keyFile: string;
}

/** A certificate, with those of its issuers, and its key; PEM. */
export interface TlsMaterial {
  cert: string;
  key: string;
}

/** Reads and checks both. @throws HobError `invalid_config` that names the file and what is wrong with it */
export function readTlsFiles({ certFile, keyFile }: TlsFiles): TlsMaterial {
  const cert = read(certFile);
  const key = read(keyFile);
  const certificate = parsed(certFile, "certificate in PEM form", () => new X509Certificate(cert));
  const privateKey: KeyObject = parsed(keyFile, "private key in PEM form, without a passphrase", () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new HobError("invalid_config", `use ${keyFile}: it is not the key of the certificate in ${certFile}`, {
      hint: "give the two files that were issued together",
    });
  }
  parsed(certFile, "chain of certificates that TLS can use", () => createSecureContext({ cert, key }));
  return { cert, key };
}

/** What is worth a warning: a browser will refuse it, and TLS works all the same. */
export function tlsWarning({ cert }: TlsMaterial, domain: string, now: number): string | undefined {
  const certificate = new X509Certificate(cert);
  if (certificate.validToDate.getTime() < now) return `the certificate has expired on ${certificate.validTo}`;
  if (certificate.checkHost(`name.${domain}`) === undefined) return `the certificate is not valid for *.${domain}`;
  return undefined;
}

/** Calls back when one of the files has changed. Does not keep the process alive. */
export function watchTlsFiles({ certFile, keyFile }: TlsFiles, onChange: () => void): Disposable {
  const files = [certFile, keyFile];
  for (const file of files) watchFile(file, { interval: LOOK_INTERVAL_MS, persistent: false }, onChange);
  return {
    [Symbol.dispose]: () => {
      for (const file of files) unwatchFile(file, onChange);
    },
  };
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new HobError("invalid_config", `read ${file}: ${(error as NodeJS.ErrnoException).code}`, {
      hint: "see --tls-cert and --tls-key",
      cause: error,
    });
  }
}

function parsed<T>(file: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw new HobError("invalid_config", `use ${file}: it holds no ${what}`, { hint: "see --tls-cert and --tls-key", cause });
  }
}
