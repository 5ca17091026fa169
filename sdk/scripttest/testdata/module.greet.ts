import { word } from "app/words";

export const hello = (name: string) => word + ", " + name;
