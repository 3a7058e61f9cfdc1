// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

import { EnvHttpProxyAgent, fetch } from "undici";

const answer = await fetch(process.argv[2], { dispatcher: new EnvHttpProxyAgent() });
console.log("status:", answer.status);
console.log("decision:", answer.headers.get("egret-decision"));
console.log(await answer.text());
