"""What fits where, how fast it can be and what it costs, worked out before anything is downloaded."""

from dsv4.plan.hardware import Machine, machine, machines
from dsv4.plan.models import TIERS, Sizes, sizes
from dsv4.plan.work_out import Plan, plan

__all__ = ["TIERS", "Machine", "Plan", "Sizes", "machine", "machines", "plan", "sizes"]
