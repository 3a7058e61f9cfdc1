// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

const answer = await fetch(process.argv[2] + "/public/x");
console.log("status:", answer.status);
