"""
Who is asking: bearer tokens in, principals out.

- `tokens` verifies a token against the issuers of the config: from the `cache`, or taken apart by `jose` and judged by
  the issuer it is `trusted` for; `forgeries` keeps a flood of wrong signatures from costing more than it is worth.
- `claims` finds tenant, user, plan and scopes in it.
- `keys` says where a key comes from: a file, or what the issuer has `published`, as a set that `jwks` reads and `fetch`
  brings. `key_ring` has those of every issuer, from one config to the next.
- `revocation` is what was taken back: tokens, users, tenants.
- `development` is an issuer for laptops: it signs with a secret that it made itself.
- `secret_files` reads and makes such secrets.

What a token says counts only as far as the config agrees: an unknown tenant, or a plan the tenant was not given, is
an invalid token.
"""
