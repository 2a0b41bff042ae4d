import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` serves the page itself, and passes everything else on to the server.
const server = "http://127.0.0.1:8000";
const paths = ["/stream", "/dispatch", "/state", "/api", "/join"];

export default defineConfig({
  plugins: [react()],
  server: { proxy: Object.fromEntries(paths.map((path) => [path, server])) },
});
