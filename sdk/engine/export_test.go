package engine

import (
	"time"

	"google.golang.org/grpc"

	enginev1 "github.com/picloud/picloud/sdk/proto/engine/v1"
)

// RegisterPatient is Register for an engine that holds the beginning of an answer back for an hour, as no machine is too busy for.
func RegisterPatient(s grpc.ServiceRegistrar, e Engine) {
	patient := newServer(e)
	patient.hold = time.Hour
	enginev1.RegisterEngineServer(s, patient)
}
