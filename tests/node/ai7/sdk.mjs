/* sdk.mjs: the AI SDK as it is installed in this folder; and a WebSocket, which Node has of its own from 22 on only. */
export * as ai from "ai";
export * as react from "@ai-sdk/react";
export { WebSocket } from "ws";
