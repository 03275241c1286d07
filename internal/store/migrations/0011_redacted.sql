-- Redacted events whose bytes are still those that were sent.
-- compatible: 0011
CREATE TABLE redacted (
	due   BIGINT NOT NULL, -- ms, when the redacted form takes their place
	event BIGINT NOT NULL,
	room  BIGINT NOT NULL,
	PRIMARY KEY (due, event)
) {{clustered}};
