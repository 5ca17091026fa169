package execution

import (
	"net/http"

	"github.com/picloud/picloud/sdk/fault"
)

// Status is the HTTP status that tells a caller about a fault.
func Status(f *fault.Fault) int {
	switch f.Kind {
	case fault.ScriptError, fault.ScriptPanic, fault.InvalidResponse, fault.EngineLost, fault.LoopDepth, fault.LoopBudget:
		return http.StatusBadGateway
	case fault.Compile:
		return http.StatusUnprocessableEntity
	case fault.Deadline:
		return http.StatusGatewayTimeout
	case fault.Limit:
		return http.StatusInsufficientStorage
	case fault.Unavailable, fault.Cancelled, fault.Overloaded:
		return http.StatusServiceUnavailable
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.Conflict:
		return http.StatusConflict
	case fault.Invalid:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}
