import { HobError } from "@hob/protocol";

const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/;

/** Ids of organizations, sprites and checkpoints, as they stand in keys. */
export const isStorageName = (text: string): boolean => NAME.test(text);

/** @throws HobError `invalid_request` */
export function checkStorageName(kind: "organization" | "sprite" | "checkpoint", text: string): string {
  if (isStorageName(text)) return text;
  throw new HobError("invalid_request", `the ${kind} id ${JSON.stringify(text.slice(0, 80))} cannot be used in the object store`, {
    hint: "ids have 1 to 63 letters, digits, - and _, the first a letter or digit",
  });
}

/** Keys of one organization's objects (docs/formats/storage.md). */
export class OrgKeys {
  readonly org: string;
  readonly prefix: string;

  /** @throws HobError `invalid_request` */
  constructor(org: string) {
    this.org = checkStorageName("organization", org);
    this.prefix = `orgs/${org}/`;
  }

  get packs(): string {
    return `${this.prefix}packs/`;
  }

  get maps(): string {
    return `${this.prefix}maps/`;
  }

  get sprites(): string {
    return `${this.prefix}sprites/`;
  }

  get gc(): string {
    return `${this.prefix}gc.json`;
  }

  pack(name: string): string {
    return `${this.packs}${name}`;
  }

  page(name: string): string {
    return `${this.maps}${name}`;
  }

  /** @throws HobError `invalid_request` */
  sprite(id: string): SpriteKeys {
    return new SpriteKeys(`${this.sprites}${checkStorageName("sprite", id)}/`);
  }
}

export class SpriteKeys {
  readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = prefix;
  }

  get head(): string {
    return `${this.prefix}head.json`;
  }

  get description(): string {
    return `${this.prefix}sprite.json`;
  }

  get start(): string {
    return `${this.prefix}start.json`;
  }

  get checkpoints(): string {
    return `${this.prefix}checkpoints/`;
  }

  checkpoint(id: string, documentHash: string): string {
    return `${this.checkpoints}${id}.${documentHash.slice(0, 16)}.json`;
  }
}
