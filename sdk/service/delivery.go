package service

// Delivery returns the options by which an event is delivered: of whatever sends events.
func Delivery() []Param {
	return []Param{
		{Field: "delay_ms", Kind: Duration, Option: true},
		{Field: "run_at", Kind: Time, Option: true},
		{Field: "expires_in_ms", Kind: Duration, Option: true},
		{Field: "priority", Kind: Number, Option: true},
		{Field: "max_attempts", Kind: Number, Option: true},
		{Field: "ordering_key", Option: true},
		{Field: "concurrency_key", Option: true},
		{Field: "rate_key", Option: true},
		{Field: "debounce_key", Option: true},
		{Field: "idempotency_key", Option: true},
	}
}
