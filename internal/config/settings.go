// Package config reads the settings of a server: defaults, then a YAML file,
// then environment variables.
//
// It owns the list of settings (the struct Config), whose comments are the
// manual: stoa.example.yaml and docs/settings.md are generated from them. It
// never opens what a setting names, and never keeps a setting to itself: what
// is not a field of Config does not exist.
//
// The invariant that matters: a Config that Load returns is complete and
// valid, so nobody checks a setting again.
package config

import (
	"net/netip"

	"stoa/matrix/id"
)

// Config holds all settings. Each field has the key of the file (yaml), the
// environment variable (env) and the default as one would write it.
//
// A comment is the setting's manual: what it is, its unit, what the default
// means. All settings are read once, at start.
type Config struct {
	// The Matrix server name: what stands after the colon in user IDs and
	// room aliases. It can't be changed once the database holds something.
	ServerName id.ServerName `yaml:"server_name" env:"STOA_SERVER_NAME" default:"localhost"`

	// Where clients, web pages and, behind a proxy, other servers are served
	// with plain HTTP: host:port, [IPv6]:port, :port for all addresses, or
	// unix:PATH for a socket file.
	ClientListen string `yaml:"client_listen" env:"STOA_CLIENT_LISTEN" default:"127.0.0.1:8008"`

	// The address that clients use to reach this server, as it is seen from
	// outside: used in /.well-known/matrix/client, pages and mail links.
	// Empty: http:// and the client listener.
	PublicURL string `yaml:"public_url" env:"STOA_PUBLIC_URL" default:""`

	// Addresses or networks of proxies whose X-Forwarded-For and PROXY header
	// (version 2) are believed, separated by commas. A proxy that comes by a unix
	// socket always is.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies" env:"STOA_TRUSTED_PROXIES" default:""`

	// Where other servers are served with HTTPS: host:port or [IPv6]:port.
	// Empty: nowhere.
	FederationListen string `yaml:"federation_listen" env:"STOA_FEDERATION_LISTEN" default:""`

	// The certificate of the federation listener, a PEM file with the chain.
	// Needed when federation_listen is set.
	TLSCert string `yaml:"tls_cert" env:"STOA_TLS_CERT" default:""`

	// The private key that belongs to tls_cert, a PEM file.
	TLSKey string `yaml:"tls_key" env:"STOA_TLS_KEY" default:""`

	// Where metrics (/metrics), health (/health) and profiles (/debug/pprof)
	// are served, to anyone who can connect: host:port or unix:PATH. Keep it
	// on loopback. Empty: nowhere.
	AdminListen string `yaml:"admin_listen" env:"STOA_ADMIN_LISTEN" default:""`

	// The name of this instance among several on one database: letters,
	// digits, '.', '_' and '-'. Sent as X-Stoa-Instance with every answer.
	// Empty: the host name and a random part.
	Instance string `yaml:"instance" env:"STOA_INSTANCE" default:""`

	// Where other instances reach this one: host:port. Empty: a free port on
	// the address that reaches the database, announced in the store.
	ClusterListen string `yaml:"cluster_listen" env:"STOA_CLUSTER_LISTEN" default:""`

	// The folder of the SQLite database and the media when these are used, of
	// temporary files, and of the socket by which commands reach the server.
	DataDir string `yaml:"data_dir" env:"STOA_DATA_DIR" default:"./data"`

	// Where everything is kept: the path of a SQLite file, or a postgres://
	// URL. Empty: stoa.db in data_dir. In a URL, pool_max_conns=N bounds the
	// connections to PostgreSQL that requests share (4 per core, 8 to 32); an
	// instance opens up to 6 more for other purposes.
	Database string `yaml:"database" env:"STOA_DATABASE" default:""`

	// Lets a PostgreSQL server run with fsync or synchronous_commit off, so
	// that acknowledged messages may be lost when it stops. For tests only.
	UnsafeDatabase bool `yaml:"unsafe_database" env:"STOA_UNSAFE_DATABASE" default:"false"`

	// A redis:// URL for the wake-ups between several instances. Empty:
	// notifications of PostgreSQL.
	Redis string `yaml:"redis" env:"STOA_REDIS" default:""`

	// Encrypts signing keys and secrets in the database: at least 16
	// characters, the same for all instances. Keep a copy; without it the
	// server loses its identity. Empty: they are kept in the clear.
	SecretKey Secret `yaml:"secret_key" env:"STOA_SECRET_KEY" default:""`

	// Who may make an account: closed (nobody; an administrator makes them),
	// token (whoever has a registration token) or open (anyone).
	Registration Registration `yaml:"registration" env:"STOA_REGISTRATION" default:"closed"`

	// The version of new rooms, unless a client asks for another.
	RoomVersion string `yaml:"room_version" env:"STOA_ROOM_VERSION" default:"12"`

	// A secret with which scripts may make accounts, administrators too, by
	// the endpoint /_synapse/admin/v1/register. Empty: the endpoint is off.
	RegistrationSharedSecret Secret `yaml:"registration_shared_secret" env:"STOA_REGISTRATION_SHARED_SECRET" default:""`

	// Documents that people must accept to make an account, a list of lines
	// ID VERSION LANGUAGE URL NAME, one a language: privacy 1.2 en
	// https://example.org/privacy Privacy policy. In the environment they are
	// separated by semicolons. Empty: none.
	Terms Terms `yaml:"terms" env:"STOA_TERMS" default:""`

	// How to reach the people behind this server, shown to anyone in
	// /.well-known/matrix/support: a list of lines ROLE ADDRESS, the role
	// m.role.admin or m.role.security, the address a Matrix user ID, an email
	// address or both. In the environment they are separated by semicolons.
	SupportContacts Contacts `yaml:"support_contacts" env:"STOA_SUPPORT_CONTACTS" default:""`

	// A page with help for the users of this server, shown in the same place.
	SupportPage string `yaml:"support_page" env:"STOA_SUPPORT_PAGE" default:""`

	// Registration files of application services, separated by colons.
	AppServices Paths `yaml:"appservices" env:"STOA_APPSERVICES" default:""`

	// A PEM file of authorities that are trusted for federation, besides
	// those of the system.
	FederationCA string `yaml:"federation_ca" env:"STOA_FEDERATION_CA" default:""`

	// Lets federation, link previews and push reach private and loopback
	// addresses. For test networks; open, it lets outsiders probe yours.
	FederationAllowPrivate bool `yaml:"federation_allow_private" env:"STOA_FEDERATION_ALLOW_PRIVATE" default:"false"`

	// Rate limits: on, or off for tests and for servers without outsiders.
	RateLimits Switch `yaml:"rate_limits" env:"STOA_RATE_LIMITS" default:"on"`

	// The least important messages that are logged: debug, info, warn or error.
	LogLevel LogLevel `yaml:"log_level" env:"STOA_LOG_LEVEL" default:"info"`

	// How messages are logged: text (for people) or json.
	LogFormat LogFormat `yaml:"log_format" env:"STOA_LOG_FORMAT" default:"text"`

	// A file for the log. Empty: standard error.
	LogFile string `yaml:"log_file" env:"STOA_LOG_FILE" default:""`

	// The size at which the log file is rotated; four old ones are kept. A
	// number of bytes, or one with KiB, MiB or GiB; whole MiB are used.
	LogMaxSize Bytes `yaml:"log_max_size" env:"STOA_LOG_MAX_SIZE" default:"100MiB"`
}
