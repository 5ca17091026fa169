package postgres

// What the tests of this package need from inside: the test kit imports it, so they are outside.
var (
	NewMigrator  = newMigrator
	CheckVersion = checkVersion
)
