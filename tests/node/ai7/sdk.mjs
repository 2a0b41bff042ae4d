/* sdk.mjs: the AI SDK as it is installed in this folder. */
export * as ai from "ai";
export * as react from "@ai-sdk/react";
