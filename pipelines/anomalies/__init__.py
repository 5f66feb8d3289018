"""What a finding is, whatever stage it comes from: the catalogue of rules, identity, and form on the wire."""
