"""A workload with the Python library `spiffe`, for the tests of crates/workload: a line of JSON for what it was given.

Its arguments are the endpoint and an audience.
"""

import json
import sys

from spiffe import WorkloadApiClient

endpoint, audience = sys.argv[1:]
with WorkloadApiClient(endpoint) as client:
    context = client.fetch_x509_context()
    svid = context.default_svid
    domain = svid.spiffe_id.trust_domain
    anchors = client.fetch_x509_bundles().get_bundle_for_trust_domain(domain).x509_authorities
    token = client.fetch_jwt_svid(audience={audience})
    keys = client.fetch_jwt_bundles().get_bundle_for_trust_domain(domain).jwt_authorities
    valid = client.validate_jwt_svid(token=token.token, audience=audience)
    try:
        refused = str(client.validate_jwt_svid(token=token.token, audience=audience + "-not"))
    except Exception as error:
        refused = type(error).__name__
    print(
        json.dumps(
            {
                "id": str(svid.spiffe_id),
                "ids": [str(one.spiffe_id) for one in context.x509_svids],
                "anchors": len(anchors),
                "token": str(token.spiffe_id),
                "audience": sorted(token.audience),
                "keys": len(keys),
                "validated": str(valid.spiffe_id),
                "otherAudience": refused,
            }
        )
    )
