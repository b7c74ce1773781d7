"""`dsv4 plan`: what fits where, how fast, at what cost."""

from __future__ import annotations

import argparse
import json


def show(args: argparse.Namespace) -> int:
    """Print the plan; status 1 when it does not fit."""
    from dsv4.plan import plan
    from dsv4.plan.report import lines

    hardware = args.hw
    if args.here:
        from dsv4.plan.here import here

        hardware = here()
    made = plan(
        args.model, tier=args.tier, context=args.ctx, batch=args.batch, hardware=hardware, usd_hour=args.usd_hour
    )
    print(json.dumps(made.to_dict()) if args.json else "\n".join(lines(made)))
    return 0 if made.placed.fits else 1
