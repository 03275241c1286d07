// Package config reads the settings of a server: defaults, then a YAML file, then
// environment variables.
//
// It owns the list of settings (the struct Config), whose comments are the manual:
// stoa.example.yaml and docs/settings.md are generated from them. It never opens the
// files and addresses in the settings. Every setting is a field of Config.
//
// The invariant: a Config from Load is complete and valid, so no other package checks a
// setting again.
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
	// The Matrix server name: the part of user IDs and room aliases after the
	// colon. You can't change it once the database contains anything.
	ServerName id.ServerName `yaml:"server_name" env:"STOA_SERVER_NAME" default:"localhost"`

	// Address of the listener for clients, web pages and, behind a proxy, other
	// servers. It speaks HTTP without TLS: host:port, [IPv6]:port, :port for all
	// addresses, or unix:PATH for a Unix socket.
	ClientListen string `yaml:"client_listen" env:"STOA_CLIENT_LISTEN" default:"127.0.0.1:8008"`

	// The address at which clients reach this server from outside. It appears
	// in /.well-known/matrix/client and on web pages. Empty: http:// and the
	// address of the client listener.
	PublicURL string `yaml:"public_url" env:"STOA_PUBLIC_URL" default:""`

	// Addresses or networks of the proxies in front of this server, separated by
	// commas. The server believes their X-Forwarded-For and PROXY headers (version
	// 2), and those of any proxy that connects through a Unix socket. Behind a
	// proxy that is missing here, all clients share one set of rate limits.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies" env:"STOA_TRUSTED_PROXIES" default:""`

	// Not served yet: this listener answers 404 to everything. Address of the
	// HTTPS listener for other servers: host:port or [IPv6]:port. Empty: none.
	FederationListen string `yaml:"federation_listen" env:"STOA_FEDERATION_LISTEN" default:""`

	// Not served yet. The certificate of the federation listener, a PEM file with
	// the whole chain. Required if federation_listen is set.
	TLSCert string `yaml:"tls_cert" env:"STOA_TLS_CERT" default:""`

	// Not served yet. The private key of tls_cert, a PEM file.
	TLSKey string `yaml:"tls_key" env:"STOA_TLS_KEY" default:""`

	// Address of the admin listener: metrics (/metrics), health (/health) and
	// profiles (/debug/pprof), without any authentication. host:port or unix:PATH.
	// Keep it on loopback. Empty: none.
	AdminListen string `yaml:"admin_listen" env:"STOA_ADMIN_LISTEN" default:""`

	// The name of this instance; the instances on one database need different
	// names. Letters, digits, '.', '_' and '-'. Every response has it in the
	// header X-Stoa-Instance. Empty: the host name and a random suffix.
	Instance string `yaml:"instance" env:"STOA_INSTANCE" default:""`

	// Address at which other instances reach this one: host:port. Only used with
	// PostgreSQL. Empty: a free port on the address that reaches the database; the
	// other instances find it in the database.
	ClusterListen string `yaml:"cluster_listen" env:"STOA_CLUSTER_LISTEN" default:""`

	// The directory for the SQLite database, temporary files, and the socket
	// through which commands reach the server.
	DataDir string `yaml:"data_dir" env:"STOA_DATA_DIR" default:"./data"`

	// The database: the path of a SQLite file, or a postgres:// (postgresql://)
	// URL. A path that looks like a mistyped address is refused; sqlite:PATH takes
	// any path. Empty: stoa.db in data_dir. In a URL, pool_max_conns=N limits the
	// PostgreSQL connections that requests share (default: 4 per core, 8 to 32);
	// an instance opens up to 6 more for other purposes.
	Database string `yaml:"database" env:"STOA_DATABASE" default:""`

	// Accept a PostgreSQL server with fsync or synchronous_commit off, which may
	// lose acknowledged messages when it stops. For tests only.
	UnsafeDatabase bool `yaml:"unsafe_database" env:"STOA_UNSAFE_DATABASE" default:"false"`

	// A redis:// URL, or unix:///PATH. Several instances then wake each other
	// through Redis. Empty: through PostgreSQL notifications. SQLite ignores it.
	Redis string `yaml:"redis" env:"STOA_REDIS" default:""`

	// Encrypts signing keys and secrets in the database: at least 16
	// characters, the same for all instances. Keep a copy; without it the
	// server loses its identity. Empty: they are stored unencrypted.
	SecretKey Secret `yaml:"secret_key" env:"STOA_SECRET_KEY" default:""`

	// Who can create an account: closed (only administrators, for others), token
	// (anyone with a registration token) or open (anyone).
	Registration Registration `yaml:"registration" env:"STOA_REGISTRATION" default:"closed"`

	// How many characters a new password must have at least, 1 to 128: at
	// registration, when it is changed, and on the command line. Passwords
	// set before stay valid.
	PasswordMinLength Length `yaml:"password_min_length" env:"STOA_PASSWORD_MIN_LENGTH" default:"8"`

	// Whether a new account gets the part of its user ID before the colon as
	// its first display name: on or off. Without one, clients show the whole
	// user ID.
	LocalpartAsDisplayName Switch `yaml:"localpart_as_display_name" env:"STOA_LOCALPART_AS_DISPLAY_NAME" default:"on"`

	// Whether clients may send their access token in the query of an address
	// (?access_token=) instead of the Authorization header: on or off. Old
	// clients, bots and bridges can do nothing else. Stoa never logs such a
	// token, but a proxy in front of it may. The metric
	// stoa_httpkit_query_tokens_total counts the requests that use it. The
	// default becomes off when the Matrix versions that allow it are no
	// longer offered.
	QueryAccessTokens Switch `yaml:"query_access_tokens" env:"STOA_QUERY_ACCESS_TOKENS" default:"on"`

	// The version of new rooms, unless the client asks for another. Clients and
	// bots from before room version 12 may need 11.
	RoomVersion string `yaml:"room_version" env:"STOA_ROOM_VERSION" default:"12"`

	// A secret with which scripts can create accounts, including administrators,
	// through /_synapse/admin/v1/register. Empty: the endpoint is off.
	RegistrationSharedSecret Secret `yaml:"registration_shared_secret" env:"STOA_REGISTRATION_SHARED_SECRET" default:""`

	// The mail server through which this server sends mail: for confirmed
	// addresses, forgotten passwords and, if people ask for it, notifications.
	// smtp://user:password@host:587 (encrypted by STARTTLS) or
	// smtps://user:password@host:465; write special characters of user and password
	// as %XX. A server without STARTTLS is refused, unless it runs on this machine
	// or the address ends with ?tls=optional. Empty: no mail is sent, nobody can
	// confirm an address, and what needs one says so. 'stoa doctor mail' checks it.
	MailSMTP MailServer `yaml:"mail_smtp" env:"STOA_MAIL_SMTP" default:""`

	// The sender of mails: an address, or a name and an address as in Stoa
	// <noreply@example.org>. Required with mail_smtp.
	MailFrom MailAddress `yaml:"mail_from" env:"STOA_MAIL_FROM" default:""`

	// How many mails all instances together send: a number a day or an hour, such
	// as 200/day or 20/hour, and in any case at most one a second, after a burst
	// of four. Mails beyond it wait. A quarter of it is kept for mails that
	// somebody waits for. off: no limit.
	MailBudget MailBudget `yaml:"mail_budget" env:"STOA_MAIL_BUDGET" default:"200/day"`

	// The hosts to which people may be sent back after they have opened the link
	// of a mail (the next_link of clients), separated by commas, such as
	// app.example.org. Empty: nobody is sent anywhere.
	MailNextLinkHosts HostPorts `yaml:"mail_next_link_hosts" env:"STOA_MAIL_NEXT_LINK_HOSTS" default:""`

	// How long a message must be unread before a mail notifies of it, for people
	// who have asked for such mails.
	MailNotifyDelay Wait `yaml:"mail_notify_delay" env:"STOA_MAIL_NOTIFY_DELAY" default:"10m"`

	// A secret with which a mail provider, or a script that reads the mailbox of
	// the sender, reports mails that came back: POST /_stoa/mail/bounces with
	// Authorization: Bearer and the secret. Addresses that are reported get no
	// more notifications. At least 16 characters. Empty: the endpoint is off.
	MailBounceSecret Secret `yaml:"mail_bounce_secret" env:"STOA_MAIL_BOUNCE_SECRET" default:""`

	// The name under which the server sends notices to its users, in a room of its
	// own for each: 'stoa notice'.
	NoticeName string `yaml:"notice_name" env:"STOA_NOTICE_NAME" default:"Server notices"`

	// Whether people may leave the room with the server's notices. They can't
	// reject the invitation in any case.
	NoticeMayLeave bool `yaml:"notice_may_leave" env:"STOA_NOTICE_MAY_LEAVE" default:"true"`

	// Who gets a mail when a user reports an event, a room or a user: an email
	// address, or several separated by commas. Empty: nobody; 'stoa report list'
	// shows the reports. Needs mail_smtp.
	ReportMail Addresses `yaml:"report_mail" env:"STOA_REPORT_MAIL" default:""`

	// Whether people confirm an email address when they create an account: off,
	// optional or required. Without mail_smtp nobody is asked.
	RegistrationEmail Demand `yaml:"registration_email" env:"STOA_REGISTRATION_EMAIL" default:"optional"`

	// Documents that people must accept to create an account. A list of lines
	// ID VERSION LANGUAGE URL NAME, one for each language, such as: privacy 1.2 en
	// https://example.org/privacy Privacy policy. In the environment variable,
	// separate the lines with semicolons. Empty: none.
	Terms Terms `yaml:"terms" env:"STOA_TERMS" default:""`

	// How to reach the people who run this server; anyone can read it in
	// /.well-known/matrix/support. A list of lines ROLE ADDRESS. ROLE is m.role.admin
	// or m.role.security; ADDRESS is a Matrix user ID, an email address or both. In
	// the environment variable, separate the lines with semicolons.
	SupportContacts Contacts `yaml:"support_contacts" env:"STOA_SUPPORT_CONTACTS" default:""`

	// The URL of a help page for the users of this server, published in the same
	// place.
	SupportPage string `yaml:"support_page" env:"STOA_SUPPORT_PAGE" default:""`

	// Not served yet. Registration files of application services, separated by
	// colons.
	AppServices Paths `yaml:"appservices" env:"STOA_APPSERVICES" default:""`

	// Not served yet. A PEM file of certificate authorities to trust for
	// federation, in addition to those of the system.
	FederationCA string `yaml:"federation_ca" env:"STOA_FEDERATION_CA" default:""`

	// Allow requests to addresses that users and other servers name (link previews,
	// push, and federation, which is not served yet) to reach private, loopback and
	// link-local addresses. For test networks: on a public server it lets outsiders
	// probe your network.
	FederationAllowPrivate bool `yaml:"federation_allow_private" env:"STOA_FEDERATION_ALLOW_PRIVATE" default:"false"`

	// The largest file that a user can upload: a number of bytes, or a number with
	// KiB, MiB or GiB. A proxy in front of Stoa must allow bodies of that size.
	MediaMaxUpload Bytes `yaml:"media_max_upload" env:"STOA_MEDIA_MAX_UPLOAD" default:"100MiB"`

	// How much a user can upload in 24 hours. 0: no limit.
	MediaDailyUploads Bytes `yaml:"media_daily_uploads" env:"STOA_MEDIA_DAILY_UPLOADS" default:"2GiB"`

	// How long uploads are kept, such as 365d. What a profile or the current state of
	// a room shows, and what is quarantined, is kept longer. 0: for ever.
	MediaLocalMaxAge Days `yaml:"media_local_max_age" env:"STOA_MEDIA_LOCAL_MAX_AGE" default:"0"`

	// How long uploads are kept that nobody downloads, such as 90d; with the same
	// exceptions. 0: for ever.
	MediaLocalMaxUnused Days `yaml:"media_local_max_unused" env:"STOA_MEDIA_LOCAL_MAX_UNUSED" default:"0"`

	// A date, such as 2026-12-31. Files that are uploaded from then on are only
	// served with an access token. Earlier uploads stay available to old clients
	// without one, under /_matrix/media/v3/download. Empty: never.
	MediaFreeze Date `yaml:"media_freeze" env:"STOA_MEDIA_FREEZE" default:""`

	// The folder for uploads. Several instances need the same folder, on a disk
	// that all of them mount, or a bucket. Empty: the folder media in data_dir.
	MediaFolder string `yaml:"media_folder" env:"STOA_MEDIA_FOLDER" default:""`

	// An S3-compatible bucket for new uploads, as https://HOST/BUCKET or
	// https://HOST/BUCKET/PREFIX. Earlier uploads stay in the folder. Empty: uploads
	// go to the folder.
	MediaBucket string `yaml:"media_bucket" env:"STOA_MEDIA_BUCKET" default:""`

	// The region of the bucket; most servers other than Amazon's need none.
	MediaBucketRegion string `yaml:"media_bucket_region" env:"STOA_MEDIA_BUCKET_REGION" default:""`

	// The access key of the bucket.
	MediaBucketAccessKey string `yaml:"media_bucket_access_key" env:"STOA_MEDIA_BUCKET_ACCESS_KEY" default:""`

	// The secret key of the bucket.
	MediaBucketSecretKey Secret `yaml:"media_bucket_secret_key" env:"STOA_MEDIA_BUCKET_SECRET_KEY" default:""`

	// The TURN servers for voice and video calls between two people: addresses
	// such as turn:turn.example.org:3478?transport=udp, separated by commas. Needs
	// turn_secret. Empty: clients that can't reach each other directly can't call
	// each other.
	TURNURIs TURNURIs `yaml:"turn_uris" env:"STOA_TURN_URIS" default:""`

	// The secret that this server shares with the TURN servers (static-auth-secret
	// of coturn). Clients get credentials from it that are valid for a day.
	TURNSecret Secret `yaml:"turn_secret" env:"STOA_TURN_SECRET" default:""`

	// The address of the authorization service (lk-jwt-service) of a LiveKit
	// server, for group calls with Element Call. Clients read it in
	// /.well-known/matrix/client. Empty: none.
	RTCLiveKitURL string `yaml:"rtc_livekit_url" env:"STOA_RTC_LIVEKIT_URL" default:""`

	// The virus scanner for uploads: clamd:/PATH or clamd://HOST:PORT for ClamAV, or an
	// http:// or https:// address to which files are posted and which answers 200 if
	// they are clean and 406 if they are not. New uploads are served once they have
	// been scanned. Empty: uploads are not scanned.
	MediaScanner string `yaml:"media_scanner" env:"STOA_MEDIA_SCANNER" default:""`

	// Whether the server fetches pages to show previews of links.
	URLPreviews bool `yaml:"url_previews" env:"STOA_URL_PREVIEWS" default:"true"`

	// Hosts that are never fetched for previews, with all hosts below them: a list, or
	// in the environment variable, names separated by commas. Empty: none.
	URLPreviewBlock Hosts `yaml:"url_preview_block" env:"STOA_URL_PREVIEW_BLOCK" default:""`

	// The only hosts that are fetched for previews, with all hosts below them. Images
	// and redirects of a page may lie elsewhere; their hosts need to be here too.
	// Empty: all hosts.
	URLPreviewAllow Hosts `yaml:"url_preview_allow" env:"STOA_URL_PREVIEW_ALLOW" default:""`

	// Rate limits: on, report (count what would be refused in the metrics
	// stoa_httpkit_limited_addresses_total and stoa_auth_limited_total, and refuse
	// nothing) or off. Without them passwords can be guessed at full speed: refuse
	// nothing only for tests and on servers that outsiders can't reach.
	// docs/operations.md lists the limits.
	RateLimits Limiting `yaml:"rate_limits" env:"STOA_RATE_LIMITS" default:"on"`

	// Limits on how much a user who is logged in sends, creates, invites, joins
	// and searches: on, report (count what would be refused in the metric
	// stoa_httpkit_limited_users_total, and refuse nothing) or off. They are off
	// too if rate_limits is off. docs/operations.md lists the limits.
	UserLimits Limiting `yaml:"user_limits" env:"STOA_USER_LIMITS" default:"on"`

	// The lowest level that is logged: debug, info, warn or error.
	LogLevel LogLevel `yaml:"log_level" env:"STOA_LOG_LEVEL" default:"info"`

	// The format of the log: text (for people) or json.
	LogFormat LogFormat `yaml:"log_format" env:"STOA_LOG_FORMAT" default:"text"`

	// The log file. Empty: standard error.
	LogFile string `yaml:"log_file" env:"STOA_LOG_FILE" default:""`

	// The size at which the log file is rotated; four old files are kept. A
	// number of bytes, or a number with KiB, MiB or GiB, rounded down to whole MiB.
	LogMaxSize Bytes `yaml:"log_max_size" env:"STOA_LOG_MAX_SIZE" default:"100MiB"`
}
