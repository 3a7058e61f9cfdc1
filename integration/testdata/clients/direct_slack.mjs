// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

import { WebClient } from "@slack/web-api";

const slack = new WebClient("xoxb-placeholder", { slackApiUrl: process.argv[2] + "/api/", retryConfig: { retries: 0 } });
console.log(await slack.auth.test());
