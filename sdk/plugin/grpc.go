package plugin

import "google.golang.org/grpc"

// MaxMessage bounds one gRPC message in either direction.
const MaxMessage = 16 << 20

// streamWindow is gRPC's own flow control. Sessions have credit of their own, so it need not hold anybody back; and to
// name it turns the estimate of bandwidth off, which sends a ping with every round trip.
const streamWindow = 4 << 20

// ServerOptions are for the gRPC server of a plugin.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage),
		grpc.InitialWindowSize(streamWindow), grpc.InitialConnWindowSize(streamWindow),
	}
}

// DialOptions are for the host's connection to a plugin.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(streamWindow),
	}
}
