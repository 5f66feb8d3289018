"""What each rule means to the person on duty, and where to look first. docs/detection.md has limits and standards."""

from __future__ import annotations

RULE_HELP: dict[str, tuple[str, str]] = {
    "voltage_spike": (
        "One reading above the fixed limit.",
        "Alone it is a note; above the band it comes with overvoltage.",
    ),
    "overvoltage": (
        "One reading above the band of EN 50160 (+10 %).",
        "Feed-in at noon, a tap changer that stands too high, or a lost neutral when another phase is low.",
    ),
    "undervoltage": (
        "One reading below the band of EN 50160 (-10 %).",
        "Heavy load, a weak joint, or a lost neutral when another phase is high.",
    ),
    "interruption": (
        "The supply is gone: below 10 % of the nominal voltage.",
        "Are neighbours on the feeder without supply too? Then it is the feeder, otherwise the connection.",
    ),
    "equipment_failure": ("The meter itself reports a failure.", "Read its status text; plan an exchange."),
    "over_temperature": (
        "The meter is hotter than it may be.",
        "A loose terminal heats with the current: compare both. CRITICAL is a fire risk.",
    ),
    "overcurrent": (
        "More current than the connection is rated for.",
        "New load, or a rating that is wrong in the table of meters.",
    ),
    "implausible_value": (
        "A value that is physically impossible here.",
        "A defective measurement, not a defective grid; three within 15 min make it an ERROR.",
    ),
    "voltage_deviation": (
        "The voltage left what is normal for this meter, and its neighbours did not.",
        "A joint or terminal at this connection; look whether the current explains it.",
    ),
    "sustained_overvoltage": (
        "The mean over 10 minutes is above the band: EN 50160 is violated.",
        "Feed-in or the tap changer; appliances suffer.",
    ),
    "sustained_undervoltage": (
        "The mean over 10 minutes is below the band: EN 50160 is violated.",
        "Overload of the feeder, or a bad joint on the way.",
    ),
    "stuck_sensor": (
        "The voltage has not changed at all for too long.",
        "The measurement hangs: the meter is blind, whatever it shows.",
    ),
    "noisy_sensor": (
        "The voltage scatters more than the feeder's other meters do.",
        "A loose contact, or a defective measurement.",
    ),
    "voltage_step": (
        "The distance to the feeder's voltage jumped and stayed.",
        "A joint got worse, a phase was swapped, or a regulator switched.",
    ),
    "voltage_drift": (
        "The distance to the feeder's voltage grows slowly.",
        "A joint that corrodes, or a measurement that ages.",
    ),
    "temperature_rise": (
        "The meter warmed quickly, and its neighbours did not.",
        "A terminal that begins to glow: look at it before it is hot.",
    ),
    "meter_silent": (
        "No reading for too long, while others send.",
        "Communication first, then supply. It ends when the meter is back.",
    ),
    "feeder_undervoltage": (
        "Many meters of a feeder are low at the same time.",
        "The cause is upstream: transformer, tap, overload. Its meters' incidents are listed below it.",
    ),
    "feeder_overvoltage": (
        "Many meters of a feeder are high at the same time.",
        "The cause is upstream: tap position or feed-in. Its meters' incidents are listed below it.",
    ),
    "feeder_outage": (
        "Many meters of a feeder lost supply or fell silent at once.",
        "A fuse or a switch of the feeder. Its meters' incidents are listed below it.",
    ),
}
"""By anomaly type: what it says, and what it may be."""
