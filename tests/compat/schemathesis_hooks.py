"""What only a relay's configuration says: the producers that it knows."""

import schemathesis


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """The contract as it is for a relay with the one [producer orders]."""
    prepare = raw_schema["components"]["schemas"]["Prepare"]
    prepare["properties"]["producer"] = {"type": "string", "enum": ["orders"]}
