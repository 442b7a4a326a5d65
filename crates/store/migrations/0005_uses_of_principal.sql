-- How many different uses somebody has is counted before another is added.

CREATE INDEX uses_principal ON uses (principal);
