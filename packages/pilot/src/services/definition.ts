import { HobError, type Service, type ServiceState, serviceName, serviceRequest } from "@hob/protocol";
import { z } from "zod";

/** What a user says a service is. */
export interface ServiceDefinition {
  readonly name: string;
  readonly cmd: string;
  readonly args: readonly string[];
  /** over the environment that every service has */
  readonly env: Readonly<Record<string, string>>;
  /** working directory; absent = the user's home */
  readonly dir?: string;
  readonly needs: readonly string[];
  readonly httpPort?: number;
}

/** @throws HobError `invalid_request` */
export function checkServiceName(name: string): string {
  const parsed = serviceName.safeParse(name);
  if (!parsed.success) throw new HobError("invalid_request", `define service: name: ${parsed.error.issues[0]?.message}`);
  return parsed.data;
}

export function toDefinition(name: string, request: z.infer<typeof serviceRequest>): ServiceDefinition {
  return {
    name,
    cmd: request.cmd,
    args: request.args ?? [],
    env: request.env ?? {},
    needs: [...new Set(request.needs ?? [])],
    ...(request.dir == null ? {} : { dir: request.dir }),
    ...(request.http_port == null ? {} : { httpPort: request.http_port }),
  };
}

export function toService(definition: ServiceDefinition, state: ServiceState): Service {
  const { name, cmd, args, env, dir, needs, httpPort } = definition;
  return {
    name,
    cmd,
    args: [...args],
    ...(Object.keys(env).length === 0 ? {} : { env }),
    ...(dir === undefined ? {} : { dir }),
    needs: [...needs],
    http_port: httpPort ?? null,
    state,
  };
}

/** Format of a definition's file; see docs/api/services.md. */
export const storedService = z.object({
  version: z.literal(1),
  name: serviceName,
  /** it was stopped by its user, and stays so */
  stopped: z.boolean(),
  definition: serviceRequest,
});

export function toStored(definition: ServiceDefinition, stopped: boolean): z.infer<typeof storedService> {
  const { name, cmd, args, env, dir, needs, httpPort } = definition;
  return { version: 1, name, stopped, definition: { cmd, args: [...args], env, dir, needs: [...needs], http_port: httpPort } };
}
