package mail

// The mails. Values that they show: .Server and .Home (the address of this server) always,
// .Address (the recipient's) always, and .User and .Link where the caller gives them.
const (
	TextAdd      = "add"      // confirm an address for an account: User, Link
	TextRegister = "register" // confirm an address for a new account: Link
	TextPassword = "password" // set a new password: User, Link
	TextUnknown  = "unknown"  // a new password was wanted, but no account has the address
	TextInUse    = "in_use"   // an account was wanted, but User has the address
	TextTest     = "test"
	TextReport   = "report" // a user reports something to the administrators: User, What, Reason, ID
)

// wording is a mail in one language. Each string is a template of package text/template.
type wording struct {
	subject string
	before  []string // paragraphs
	action  string   // label of the link; empty = none
	after   []string
}

// mailText is a mail in all languages.
type mailText struct {
	class class
	in    map[string]wording
}

// defaultLanguage is that of people whose language has no texts.
const defaultLanguage = "en"

// Languages are those that have texts; the first is the default.
var Languages = []string{defaultLanguage, "pl", "es"}

var texts = map[string]mailText{
	TextAdd: {classUrgent, map[string]wording{
		"en": {
			"Confirm your email address for {{.Server}}",
			[]string{"Somebody, probably you, wants to add this address to the account {{.User}} on {{.Server}}.", "Open this link to confirm that the address is yours:"},
			"Confirm the address",
			[]string{"If it was not you, ignore this mail: nothing happens unless the link is opened."},
		},
		"pl": {
			"Potwierdź swój adres e-mail na {{.Server}}",
			[]string{"Ktoś, prawdopodobnie Ty, chce dodać ten adres do konta {{.User}} na {{.Server}}.", "Otwórz ten odnośnik, aby potwierdzić, że adres należy do Ciebie:"},
			"Potwierdź adres",
			[]string{"Jeśli to nie Ty, zignoruj tę wiadomość: bez otwarcia odnośnika nic się nie stanie."},
		},
		"es": {
			"Confirma tu dirección de correo en {{.Server}}",
			[]string{"Alguien, probablemente tú, quiere añadir esta dirección a la cuenta {{.User}} en {{.Server}}.", "Abre este enlace para confirmar que la dirección es tuya:"},
			"Confirmar la dirección",
			[]string{"Si no has sido tú, ignora este mensaje: no ocurre nada si nadie abre el enlace."},
		},
	}},
	TextRegister: {classUrgent, map[string]wording{
		"en": {
			"Confirm your email address to join {{.Server}}",
			[]string{"Somebody, probably you, is creating an account on {{.Server}} with this address.", "Open this link to confirm that the address is yours, then go back to your app:"},
			"Confirm the address",
			[]string{"If it was not you, ignore this mail: without the link no account gets your address."},
		},
		"pl": {
			"Potwierdź swój adres e-mail, aby dołączyć do {{.Server}}",
			[]string{"Ktoś, prawdopodobnie Ty, zakłada konto na {{.Server}} z tym adresem.", "Otwórz ten odnośnik, aby potwierdzić, że adres należy do Ciebie, a potem wróć do aplikacji:"},
			"Potwierdź adres",
			[]string{"Jeśli to nie Ty, zignoruj tę wiadomość: bez otwarcia odnośnika żadne konto nie otrzyma Twojego adresu."},
		},
		"es": {
			"Confirma tu dirección de correo para unirte a {{.Server}}",
			[]string{"Alguien, probablemente tú, está creando una cuenta en {{.Server}} con esta dirección.", "Abre este enlace para confirmar que la dirección es tuya y vuelve después a tu aplicación:"},
			"Confirmar la dirección",
			[]string{"Si no has sido tú, ignora este mensaje: sin el enlace ninguna cuenta obtiene tu dirección."},
		},
	}},
	TextPassword: {classUrgent, map[string]wording{
		"en": {
			"Set a new password for {{.User}}",
			[]string{"Somebody, probably you, wants to set a new password for the account {{.User}} on {{.Server}}.", "If it is you, open this link, confirm, and go back to your app to choose the password:"},
			"Allow a new password",
			[]string{"If it was not you, do not open the link: your password stays as it is."},
		},
		"pl": {
			"Ustaw nowe hasło dla {{.User}}",
			[]string{"Ktoś, prawdopodobnie Ty, chce ustawić nowe hasło dla konta {{.User}} na {{.Server}}.", "Jeśli to Ty, otwórz ten odnośnik, potwierdź i wróć do aplikacji, aby wybrać hasło:"},
			"Zezwól na nowe hasło",
			[]string{"Jeśli to nie Ty, nie otwieraj odnośnika: Twoje hasło pozostanie bez zmian."},
		},
		"es": {
			"Elige una contraseña nueva para {{.User}}",
			[]string{"Alguien, probablemente tú, quiere cambiar la contraseña de la cuenta {{.User}} en {{.Server}}.", "Si eres tú, abre este enlace, confirma y vuelve a tu aplicación para elegir la contraseña:"},
			"Permitir una contraseña nueva",
			[]string{"Si no has sido tú, no abras el enlace: tu contraseña no cambia."},
		},
	}},
	TextUnknown: {classUrgent, map[string]wording{
		"en": {
			"No account on {{.Server}} has this address",
			[]string{"Somebody, probably you, wanted to set a new password on {{.Server}} with the address {{.Address}}, but no account has it.", "If you have an account there, it has another address, or none. Your administrator can set a new password."},
			"",
			[]string{"If it was not you, ignore this mail."},
		},
		"pl": {
			"Żadne konto na {{.Server}} nie ma tego adresu",
			[]string{"Ktoś, prawdopodobnie Ty, chciał ustawić nowe hasło na {{.Server}} za pomocą adresu {{.Address}}, ale żadne konto go nie ma.", "Jeśli masz tam konto, to ma ono inny adres albo żadnego. Administrator może ustawić nowe hasło."},
			"",
			[]string{"Jeśli to nie Ty, zignoruj tę wiadomość."},
		},
		"es": {
			"Ninguna cuenta de {{.Server}} tiene esta dirección",
			[]string{"Alguien, probablemente tú, quería cambiar su contraseña en {{.Server}} con la dirección {{.Address}}, pero ninguna cuenta la tiene.", "Si tienes una cuenta allí, tiene otra dirección o ninguna. La administración puede poner una contraseña nueva."},
			"",
			[]string{"Si no has sido tú, ignora este mensaje."},
		},
	}},
	TextInUse: {classUrgent, map[string]wording{
		"en": {
			"You have an account on {{.Server}} already",
			[]string{"Somebody, probably you, wanted to use this address for an account on {{.Server}}, but the account {{.User}} has it already.", "Log in as {{.User}}. If you have forgotten the password, ask for a new one in your app."},
			"",
			[]string{"If it was not you, ignore this mail: nothing has changed."},
		},
		"pl": {
			"Masz już konto na {{.Server}}",
			[]string{"Ktoś, prawdopodobnie Ty, chciał użyć tego adresu dla konta na {{.Server}}, ale ma go już konto {{.User}}.", "Zaloguj się jako {{.User}}. Jeśli nie pamiętasz hasła, poproś o nowe w aplikacji."},
			"",
			[]string{"Jeśli to nie Ty, zignoruj tę wiadomość: nic się nie zmieniło."},
		},
		"es": {
			"Ya tienes una cuenta en {{.Server}}",
			[]string{"Alguien, probablemente tú, quería usar esta dirección para una cuenta en {{.Server}}, pero ya la tiene la cuenta {{.User}}.", "Entra como {{.User}}. Si has olvidado la contraseña, pide una nueva en tu aplicación."},
			"",
			[]string{"Si no has sido tú, ignora este mensaje: nada ha cambiado."},
		},
	}},
	TextReport: {classNotice, map[string]wording{
		"en": {
			"A report on {{.Server}}",
			[]string{"{{.User}} reports {{.What}}.", "Their reason: {{.Reason}}", "'stoa report show {{.ID}}' shows the report."},
			"", nil,
		},
		"pl": {
			"Zgłoszenie na {{.Server}}",
			[]string{"{{.User}} zgłasza {{.What}}.", "Powód: {{.Reason}}", "'stoa report show {{.ID}}' pokazuje zgłoszenie."},
			"", nil,
		},
		"es": {
			"Una denuncia en {{.Server}}",
			[]string{"{{.User}} denuncia {{.What}}.", "Motivo: {{.Reason}}", "'stoa report show {{.ID}}' muestra la denuncia."},
			"", nil,
		},
	}},
	TextTest: {classUrgent, map[string]wording{
		"en": {"A test mail of {{.Server}}", []string{"This mail shows that {{.Server}} can send mail."}, "", nil},
		"pl": {"Wiadomość testowa z {{.Server}}", []string{"Ta wiadomość pokazuje, że {{.Server}} może wysyłać pocztę."}, "", nil},
		"es": {"Un mensaje de prueba de {{.Server}}", []string{"Este mensaje muestra que {{.Server}} puede enviar correo."}, "", nil},
	}},
}
