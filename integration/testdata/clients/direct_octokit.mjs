// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

import { Octokit } from "@octokit/rest";

const github = new Octokit({ baseUrl: process.argv[2] });
console.log((await github.users.getAuthenticated()).status);
