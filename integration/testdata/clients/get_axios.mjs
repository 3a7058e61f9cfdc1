// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

import axios from "axios";

const answer = await axios.get(process.argv[2], { validateStatus: () => true, timeout: 20000 });
console.log("status:", answer.status);
console.log("decision:", answer.headers["egret-decision"]);
console.log(JSON.stringify(answer.data));
