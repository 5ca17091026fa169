package postgres

// What the tests of this package need from inside: the test kit imports it, so they are outside.
var (
	NewMigrator  = newMigrator
	CheckVersion = checkVersion
)

// Probes are statements that look entries up by arrays of their ids, and the types of their parameters.
var Probes = map[string]string{
	sqlSettleUnrecorded: "bigint, uuid[], int[]",
	sqlSettlePlain:      "bigint, uuid[], int[], smallint[], int[], smallint[], timestamptz[], bigint[], text[], text[], text[]",
	sqlSettleLost:       "bigint, uuid[], int[]",
}
