import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Certificate {
  certFile: string;
  keyFile: string;
}

/** An authority for certificates that nobody trusts unless told to. */
export interface Authority {
  certFile: string;
  /** @param names such as `DNS:a.test` or `IP:127.0.0.1` */
  sign(name: string, names: readonly string[], days?: number): Promise<Certificate>;
}

const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** Makes one with files in `folder`. */
export async function makeAuthority(folder: string, name = "authority"): Promise<Authority> {
  const file = (of: string, kind: string): string => join(folder, `${of}.${kind}`);
  const openssl = (...args: string[]) => run("openssl", args, { timeout: 30_000 });
  const [caCert, caKey] = [file(name, "crt"), file(name, "key")];
  await openssl("req", "-x509", ...KEY, "-days", "2", "-subj", `/CN=${name}`, "-keyout", caKey, "-out", caCert);
  const sign = async (subject: string, names: readonly string[], days = 2): Promise<Certificate> => {
    const [certFile, keyFile, request, extensions] = ["crt", "key", "csr", "ext"].map((kind) => file(subject, kind)) as [
      string,
      string,
      string,
      string,
    ];
    await writeFile(extensions, `subjectAltName=${names.join(",")}\n`);
    await openssl("req", "-new", ...KEY, "-subj", `/CN=${subject}`, "-keyout", keyFile, "-out", request);
    const by = ["-CA", caCert, "-CAkey", caKey, "-CAcreateserial"];
    await openssl("x509", "-req", "-in", request, ...by, "-days", String(days), "-extfile", extensions, "-out", certFile);
    return { certFile, keyFile };
  };
  return { certFile: caCert, sign };
}
