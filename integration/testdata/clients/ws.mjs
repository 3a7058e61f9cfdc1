// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

import { HttpsProxyAgent } from "https-proxy-agent";
import WebSocket from "ws";

const ws = new WebSocket(process.argv[2], { agent: new HttpsProxyAgent(process.env.HTTPS_PROXY), handshakeTimeout: 20000 });
ws.on("open", () => ws.send("hello"));
ws.on("message", (text) => {
  console.log("echo:", text.toString());
  ws.close();
});
ws.on("unexpected-response", (_, answer) => {
  console.log("status:", answer.statusCode);
  console.log("decision:", answer.headers["egret-decision"]);
  process.exit(1);
});
