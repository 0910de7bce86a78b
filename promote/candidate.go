package promote

// Candidate is the member to be, and what is known of the proxy in its place.
//
// Its Check methods look for every reason to refuse the promotion. They change
// nothing: where the only proof is to do a thing, as for a port that must be
// bindable, it is done for a moment and undone.
//
// It is never written anywhere: Environ may hold secrets.
type Candidate struct {
	Name    string
	DataDir string // absolute
	WALDir  string // absolute; "" = inside DataDir

	InitialAdvertisePeerURLs []string
	ListenPeerURLs           []string
	ListenClientURLs         []string
	AdvertiseClientURLs      []string

	// Settings are etcd's flags without their dashes, from the proxy or from
	// behind --: cert-file, peer-cert-file and the like. Paths are absolute.
	Settings map[string]string
	// EtcdFlags is what stood behind --, as typed.
	EtcdFlags []string

	Binary Binary
	// TemporaryFolders are where a built-in etcd may not lie, because it would
	// be gone after a reboot. If nil, these are the folder for temporary files
	// and those in which go run and go test build; an empty list allows all.
	TemporaryFolders []string

	// Voter skips the learner stage.
	Voter bool
	// HandOver tells that etcd listens beside the proxy on the client ports
	// and gets them from it.
	HandOver bool
	// Reused are the client URLs that the proxy holds and will free.
	Reused []string

	ProxyPID          int
	ProxyNamespacePID int // its pid in its innermost namespace; 0 = unknown
	ProxyInPod        bool
	ProxyClusterID    uint64 // 0 = unknown

	// StageEnv tells that etcd is not started here: the promotion ends after
	// it has printed the variables.
	StageEnv bool

	// Environ is the environment of the unit or of the process to be, as far
	// as it is not cleaned before etcd starts.
	Environ []string

	UID, GID uint32 // who etcd will run as
}
