// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// An authorization server for egret's integration tests: oidc-provider, which knows one
// client for each way of authentication, and token exchange and the JWT bearer grant for
// the JWT-SVIDs of one trust domain. Its settings are the JSON file that it is given.
import { readFileSync } from "node:fs";
import https from "node:https";
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } from "jose";
import { Provider, errors } from "oidc-provider";

const settings = JSON.parse(readFileSync(process.argv[2], "utf8"));
const svids = createLocalJWKSet(settings.svidKeys);
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS = "urn:ietf:params:oauth:token-type:access_token";

const signing = await generateKeyPair("ES256", { extractable: true });

function client(id, method, more = {}) {
  return {
    client_id: id,
    token_endpoint_auth_method: method,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
    ...more,
  };
}

const provider = new Provider(settings.issuer, {
  clients: [
    client("basic:1 %", "client_secret_basic", { client_secret: settings.secret }),
    client("post", "client_secret_post", { client_secret: settings.secret }),
    client("key", "private_key_jwt", { jwks: settings.clientKeys }),
    client(settings.spiffeID, "tls_client_auth", {
      tls_client_auth_san_uri: settings.spiffeID,
      tls_client_certificate_bound_access_tokens: true,
    }),
    client("workloads", "none", { grant_types: [EXCHANGE, BEARER] }),
  ],
  jwks: { keys: [{ ...(await exportJWK(signing.privateKey)), alg: "ES256", use: "sig", kid: "1" }] },
  scopes: ["items:read"],
  clientDefaults: { id_token_signed_response_alg: "ES256" }, // the key that there is
  clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth", "none"],
  ttl: { ClientCredentials: 600 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === "tls_client_auth_san_uri" &&
        ctx.socket.getPeerX509Certificate().subjectAltName === `URI:${expected}`,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: "items:read",
        audience: resource,
        accessTokenTTL: 600,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
});

// svid verifies a JWT-SVID for this server alone, and returns whose it is.
async function svid(token) {
  const { payload } = await jwtVerify(token ?? "", svids, { audience: settings.issuer, algorithms: ["ES256", "RS256"] }).catch((e) => {
    throw new errors.InvalidGrant(`the JWT-SVID is refused: ${e.message}`);
  });
  if (Array.isArray(payload.aud) && payload.aud.length !== 1) throw new errors.InvalidGrant("the JWT-SVID is for others too");
  if (payload.sub !== settings.spiffeID) throw new errors.InvalidGrant("the workload is not known");
  return payload.sub;
}

async function give(ctx, more) {
  const { ClientCredentials } = ctx.oidc.provider;
  const token = new ClientCredentials({ client: ctx.oidc.client, scope: ctx.oidc.params.scope, extra: { workload: more.workload } });
  ctx.body = { access_token: await token.save(), expires_in: token.expiration, token_type: token.tokenType, ...more.say };
}

provider.registerGrantType(
  EXCHANGE,
  async (ctx) => {
    const p = ctx.oidc.params;
    if (p.subject_token_type !== "urn:ietf:params:oauth:token-type:jwt") throw new errors.InvalidRequest("subject_token_type");
    if (p.requested_token_type && p.requested_token_type !== ACCESS) throw new errors.InvalidRequest("requested_token_type");
    await give(ctx, { workload: await svid(p.subject_token), say: { issued_token_type: ACCESS } });
  },
  ["subject_token", "subject_token_type", "requested_token_type", "scope"],
);

provider.registerGrantType(
  BEARER,
  async (ctx) => {
    await give(ctx, { workload: await svid(ctx.oidc.params.assertion), say: {} });
  },
  ["assertion", "scope"],
);

provider.on("server_error", (_, e) => console.error(e));
provider.on("grant.error", (_, e) => console.error("refused:", e.error, e.error_detail ?? e.error_description));

const server = https.createServer(
  { cert: readFileSync(settings.cert), key: readFileSync(settings.key), ca: readFileSync(settings.roots), requestCert: true, rejectUnauthorized: false },
  provider.callback(),
);
server.listen(0, "127.0.0.1", () => console.log(`ready ${server.address().port}`));
