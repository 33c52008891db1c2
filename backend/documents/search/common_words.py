"""Remove words that are too common to show what a question is about, in many languages."""

# ruff: noqa: RUF001  # The word lists need other alphabets.
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from unicodedata import combining, normalize

COMMON = {
    "english": """
        'd 'll 'm 're 's 've a about after ain't all am an and any are aren't as at be because been before
        being between both but by can can't could couldn't did didn't do does doesn't doing don't during
        each few for from had hadn't has hasn't have haven't having he her here hers him his how i if in
        into is isn't it its just me more most mustn't my needn't no nor not of off on once only or other
        our ours out over own please same shall she should shouldn't so some such than that the their theirs
        them then there these they this those through to too under until up very was wasn't we were weren't
        what when where which while who whom whose why will with won't would wouldn't you your yours
    """,
    "german": """
        's aber alle allem allen aller alles als also am an ander andere anderen auch auf aus bei beim bin
        bis bist bitte da damit dann das dass daß dein deine dem den denn der des dessen dich die dies diese
        diesem diesen dieser dieses dir doch dort du durch ein eine einem einen einer eines er es etwas euch
        euer für gegen gibt habe haben hat hatte hatten hier hin hinter ich ihm ihn ihnen ihr ihre ihrem
        ihren ihrer im in ins ist ja jede jedem jeden jeder jedes jetzt kann kannst können könnte man mein
        meine meinem meinen meiner mich mir mit muss müssen nach nicht nichts noch nun nur ob oder ohne sehr
        sein seine seinem seinen seiner seit sich sie sind so soll sollen sollte sondern um und uns unser
        unsere unter viel viele vom von vor wann war waren warst warum was weil welche welchem welchen
        welcher welches wem wen wenn wer werde werden weshalb wessen wie wieder wieso wieviel will wir wird
        wo woher wohin womit worden wurde wurden zu zum zur zwischen über
    """,
    "french": """
        ai as au aucun aussi autre aux avait avant avec avez avoir avons c car ce ceci cela celle celles
        celui ces cet cette ceux chaque chez combien comme comment d dans de depuis des doit donc dont du
        elle elles en encore entre es est est-ce et eu eux fait il ils j je l la le les leur leurs lui là m
        ma mais me mes moi mon même n ne ni nos notre nous on ont ou où par pas peut plus pour pourquoi qu
        quand que quel quelle quelles quels qui quoi s sa sans se sera ses si son sont sous suis sur t ta te
        tes toi ton tous tout toute toutes très tu un une vers vos votre vous y à ça étaient était être
    """,
    "spanish": """
        a al algo alguna algunas alguno algunos ante antes como con contra cual cuales cuando cuál cuáles
        cuándo cuánta cuántas cuánto cuántos cómo de del desde donde dos durante dónde e el ella ellas ellos
        en entre era eran es esa esas ese eso esos esta estas este esto estos está están fue fueron ha había
        hace han hasta hay la las le les lo los me mi mis mucho muy más nada ni no nos nosotros nuestra
        nuestro o os otra otras otro otros para pero poco por porque puede pueden que quien quienes quién
        quiénes qué se sea según ser si sido sin sobre son su sus sí también tan tanto te tiene tienen todo
        todos tu tus tú un una unas uno unos usted ustedes y ya yo él
    """,
    "italian": """
        a ad agli ai al alla alle allo anche avere c che chi ci cioè come con contro cosa così cui d da
        dagli dai dal dalla dalle dallo degli dei del dell della delle dello di dopo dov dove due e ed era
        erano essere fa fra fu gli ha hanno ho i il in io l la le lei li lo loro lui ma mi mia mio molto ne
        nei nel nell nella nelle nello no noi non nostra nostro o ogni per perché però più poi prima può
        qual quale quali quando quanta quante quanti quanto quella quelle quelli quello questa queste questi
        questo s se sei senza si sia siamo siano siete sono sta su sua sue sugli sui sul sulla sulle sullo
        suo suoi tra tu tua tuo tutti tutto un una uno v vi voi è
    """,
    "portuguese": """
        a ao aos aquela aquele aquilo as até com como contra da das de dela dele deles depois do dos e ela
        elas ele eles em entre era eram essa esse esta este está estão eu foi foram há isso isto já la lhe
        lo mais mas me mesmo meu minha muito na nas nem no nos nossa nosso num numa não nós o onde os ou
        para pela pelas pelo pelos pode podem por porque quais qual quando quanta quantas quanto quantos que
        quem quê se sem ser será seu seus sobre sua suas só também te tem ter teu tu tua tudo têm um uma
        umas uns você vocês à às é
    """,
    "dutch": """
        aan al alle als ander andere bij dan dat de den der deze die dit doen door dus een en er geen haar
        had heb hebben heeft hem het hij hoe hoeveel hun ik in is ja je jij jou jouw jullie kan kunnen maar
        me mee meer men met mij mijn moet moeten na naar niet niets nog nu of om omdat ons onze ook op over
        te tegen toch toen tot u uit uw van veel voor waar waarom wanneer waren was wat we welk welke werd
        wie wij wil worden wordt zal ze zei zelf zich zij zijn zo zonder zou
    """,
    "swedish": """
        alla allt att av blev bli blir de dem den denna deras dess dessa det detta dig din dina ditt du då
        efter ej eller en er era ett finns från för ha hade han hans har hon honom hos hur i in inom inte
        jag kan kunde man med mellan men mer mig min mina mitt mot mycket ni nu när någon något några och om
        oss på samma sedan sig sin sina sitt ska skulle som så sådan till under upp ut utan vad var varför
        vart vem vems vi vid vilka vilken vilket vår våra än är
    """,
    "danish": """
        af alle alt at blev blive bliver da de dem den denne der deres det dette dig din dine disse dit du
        efter eller en end er et for fra ha han hans har havde hende hendes her hos hun hvad hvem hvilke
        hvilken hvilket hvis hvor hvordan hvorfor hvornår i ikke ind jeg jer kan kunne man mange med meget
        mellem men mig min mine mit mod nogen noget nogle nu når og også om op os over på selv sig sin sine
        sit skal skulle som så sådan til ud under var vi vil ville vor være været
    """,
    "norwegian": """
        alle alt at av bare ble bli blir både da de deg dei dem den denne der dere deres det dette din dine
        disse ditt du då eg ein eit eller en enn er et etter for fra før ha hadde han hans har hennes her
        hun hva hvem hvilke hvilken hvilket hvis hvor hvordan hvorfor i ikke ikkje inn jeg kan korleis kunne
        kva kven man mange med meg mellom men mer min mine mitt mot mye noe noen nå når og også om opp oss
        over på seg selv sin sine sitt skal skulle som så til under ut uten var ved vi vil ville vår være
        vært å
    """,
    "finnish": """
        ei eivät että he heidän hän hänen ja jo joka jonka jos jossa jota jotka kanssa kenen ketkä kuin
        kuinka kuka kun kuten me meidän miksi mikä mikäli millainen milloin milloinkin minkä minun minä
        missä mistä mitkä mitä mutta myös ne niiden niin niitä nyt ole olen olevat oli olisi olivat olla on
        onko ovat paljonko poikki se sekä sen siellä siinä sillä sinun sinä sitä tai te teidän tuo tämä
        tämän tässä tätä vai vain voi voiko voivat
    """,
    "hungarian": """
        a aki akkor amely ami amikor az azok azon azt azzal be csak de e egy egyik el ez ezek ezen ezt fel
        ha hanem hogy hogyan hol hova hány igen is itt ki kik kinek között le legyen lehet lesz maga meg
        mely melyik mennyi mert mi mikor milyen mint mit miért most már nagyon ne nem nincs olyan s sem
        szerint után vagy van vannak volt voltak és így össze úgy ő ők
    """,
    "turkish": """
        acaba ama ancak bana bazı başka belki ben beni benim bir biri biz bizim bu bunlar bunu bunun da daha
        de değil diye en gibi göre hangi hangisi hem hep hepsi her hiç ile ise için kadar kaç kez ki kim
        kime kimin mi mu mü mı nasıl ne neden nedir neler nerede nereden nereye niye niçin o olan olarak
        oldu olduğu olur on ona onlar onu onun sen senin siz sonra tüm var vardır ve veya ya yani yok çok
        çünkü üzere şey şu
    """,
    "russian": """
        а без бы был была были было быть в вам вас ваш ваша ведь во вот все всего всех всё вы где да для до
        его ее если есть еще ещё её ж же за здесь и из или им их к как какая какие какого какое какой каком
        когда кого ком кому которая которое которые который кто куда ли мне много может можно мой моя мы на
        над нам нас наш не него нее ней нет ни них но ну о об однако он она они оно от откуда очень по под
        почему при про с сам свой себя сколько со так также такой там те тебя тем то того тоже той только
        том тот ты у уже чего чей чем чему что чтобы чья эта эти это этого этой этот я
    """,
    "greek": """
        ένα έναν ένας έχει έχετε έχουν έχω ή ήμουν ήταν αλλά αν απο αποτελεί από αυτά αυτές αυτή αυτήν αυτής
        αυτοί αυτού αυτούς αυτό αυτός αυτών για γιατί δε δεν είμαι είναι είσαι είχαν είχε εγώ εμείς ενός εσύ
        η θα κάθε κάποιος και κατά κι μέχρι μία μας με μετά μη μην μια μιας μου μπορεί μπορώ να ο οι παρά
        περί ποιά ποια ποιας ποιες ποιο ποιοι ποιον ποιος ποιου ποιων ποιό ποιός πολύ που πού πριν προς πως
        πόσα πόσες πόση πόσο πόσοι πόσος πότε πώς σαν σας σε σου στα στη στην στης στις στο στον στου στους
        στων τα τη την της τι τις το τον του τους των τόσο υπάρχει υπάρχουν χωρίς ως όμως όπου όπως όσο όταν
        ότι όχι ώστε
    """,
    "romanian": """
        a acea aceasta această aceea acei aceia acel acela acele acest acesta aceste acestea acestor acestui
        acești acolo ai al ale alt alta alte am ar are asta astă atunci au avea avem aveți avut aș așa ca
        care ce cei cel cele celor cine cu cui cum când cât câte câtă câți că cărei căror cărui da dacă dar
        de deci decât despre din după e ea ei el ele era erau este eu fi fie fiecare fost fără i iar l la le
        li lor lui m mai mea mei mele meu mi mult multe mulți n ne nici nimic noastră noi nostru nu o ori pe
        pentru poate pot prea prin s sa sale sau se si sub sunt să săi său te toate toată tot toți tu un una
        unde unei unele unor unui v voi vostru voștri vreo vă îi îl îmi în înainte între își îți și
    """,
    "catalan": """
        a això al als amb aquell aquella aquest aquesta aquests cada com contra d da dalt de del dels des
        doncs e el ell ella ells els em en ens entre era eren es esta estan estat està et fins fou ha han
        has hem hi ho i ja l la les li ll lo m ma mateix me meu molt més n ni no nosaltres o on pel pels per
        perquè però pot qual quals quan quant quanta quantes quants que qui què s sa se sense ser seu seus
        seva seves si sobre sota sou són t també te tens tot tota tots tu té un una unes uns us va van
        vosaltres vostè és
    """,
    "basque": """
        al ala ari baina bat batean batek baten berak bere beren bi da dago daude den dena deran diot dira
        direla ditu du dute edo egin eta ez ezin gara gu guk gure hau hauek hemen hori horiek hura izan
        izango izaten lehen nahi naiz ni nik nire noiz nola non nondik nor nora noren nork nortzuk zein
        zeintzuk zen zer zergatik ziren zituen zu zuen zure zuten
    """,
    "irish": """
        a ach ag agus an ann ar arbh as atá b ba bhfuil bhí cad cathain chomh chuig conas cá cé cén d de den
        do dom don dá dár eile faoi fuair féin ga gach gan go gur i iad ina is le leis liom léi mar mo muid
        má mé na nach ná ní níl nó os raibh sa san seo siad sibh sin sinn sna sé sí tá tú um é í ó
    """,
    "lithuanian": """
        apie ar arba aš be bei bet bus buvo būti dar do dėl gali iki ir iš jai jam jau jei ji jie jiems jis
        jo jos juos ją jų ka kad kada kai kaip kam kas kiek kiekvienas kieno kito kodėl kokia kokie kokios
        koks kur kuri kurie kurios kuris kurią kurį ką man mano mes mūsų ne nei nes net nors nuo nėra o
        pagal pas per po prie prieš savo su tai taip tame tarp tas tačiau ten to tu turi už yra ši šie šio
        šios šis šią šį
    """,
    "serbian": """
        a ali bez bi bih bila bile bili bilo bio biti da do dok ga gde gdje go i iako ili im ima imaju iz
        iza ja je jer jesam jesu još ju kad kada kakav kako kakva kakvo ko kod koja koje kojem koji kojim
        kojoj koju kolika koliko kroz li mi mogu moj moja može mu na nad nakon nam nas naš ne nego neka neki
        nema nešto nije nisu njega njen njih njihov o od on ona oni ono osim ova ovaj ove ovo po pod pored
        posle pre preko prema pri s sa sam samo se sebe si smo ste su svaki sve svi svoj ta tada taj tako
        takođe te ti to tu u uz vam vas već vi za zar zašto šta što а али без би била биле били било био
        бити вам вас већ ви га где да до док за зашто и иако из иза или им има имају кад када какав каква
        какво како ко код колико која које којем који којим којој коју кроз ли ми могу може мој моја му на
        над након нам нас наш не него нека неки нема нешто нису није о ова овај ове ово од он она они оно
        осим по под поред после пре преко према при с са сам само сваки све сви свој се себе си смо сте су
        та тада тако такође тај те ти то ту у уз шта што ја је јер јесам јесу још ју њега њен њих њихов
    """,
    "arabic": """
        ألا أم أما أن أنا أنت أو أي أين إذ إذا إلى إن التي الذي الذين اللذين اللواتي الى ان او اي اين بعد بل
        به بها بين تلك ثم حتى حول خلال ذلك سوف على عليه عليها عن عند عندما غير ف فقط في فيه فيها قبل قد ك
        كان كانت كانوا كل كم كما كي كيف لأن لا لدى لذلك لقد لكن لم لما لماذا لن له لها لهم ليس ليست ما ماذا
        متى مثل مع من منذ منه منها مَن نحن نحو هؤلاء هذا هذه هل هم هما هن هنا هناك هو هي و وفي وقد وكان ولا
        ومن وهو وهي يكون يمكن
    """,
    "hindi": """
        अगर अपना अपनी अपने अब आप आपका आपकी आपके इन इस इसका इसकी इसके इसमें इसे उन उनका उनकी उनके उन्हें
        उन्होंने उस उसका उसकी उसके उसने उसे एक एवं और कई कब कभी कहाँ कहां का कि कितना कितनी कितने किन किस
        किसका किसकी किसके किसने किसी किसे की कुछ के केवल कैसा कैसी कैसे को कोई कौन कौनसा कौनसी क्या क्यों गई
        गए गया चाहिए जब जहाँ जहां जा जाता जाती जाते जाने जिन जिस जिसका जिसकी जिसके जिसमें जिसे जैसे जो तक
        तथा तब तो था थी थीं थे दिया दो द्वारा न नहीं ने पर फिर बहुत बाद भी में मेरा मेरी मेरे मैं यदि यह
        यहाँ यहां या ये रहा रही रहे लिए लेकिन वह वहाँ वहां वाला वाली वाले वे सकता सकती सकते सब सभी साथ से हम
        हमारा हमारी हमारे ही हुआ हुई हुए हूँ हूं है हैं हो होता होती होते होना होने
    """,
    "nepali": """
        अनि अब अरू आफ्नै आफ्नो उनको उनी उनीहरू उसको ऊ एउटा एक कति कसको कसरी कसले कहाँ कहिले का कि किन कुन
        कुनै के को कोही गरी गरेको गर्न गर्ने छ छन् छैन जब जस जसको जसले जहाँ जुन जो त तथा तपाईं तर तिनी तिमी
        त्यस त्यो थिइन् थिए थियो देखि न नै पछि पनि बाट बीच भए भएको भने भन्ने म मा माथि मेरो यस यसको यसमा
        यसरी यी यो र रहेको लाई लागि ले वा सँग सबै सम्म हामी हाम्रो हुन हुने हुन् हुन्छ हो होइन
    """,
    "indonesian": """
        ada adalah agar akan aku anda antara apa apakah atas atau bagaimana bagi bahwa banyak beberapa belum
        berapa bisa bukan dalam dan dapat dari daripada dengan di dia dimana hanya harus ia ialah ini itu
        jika juga kah kalau kami kamu kapan karena kata ke kemana kenapa kepada ketika kita lagi lah lain
        lebih maka mana masih mengapa mereka milik namun nya oleh pada para pernah pun saat saja sangat saya
        sebagai sebuah secara sedang sehingga sejak semua seorang seperti serta siapa suatu sudah tak tapi
        telah tentang terhadap tersebut tetapi tiap tidak untuk yaitu yang
    """,
    "armenian": """
        ամեն այդ այլ այն այս արդյոք բայց եթե եղավ եղել են ենք ես երբ եք է էի էին էիր էր ըստ թե թեև ի իմ ին
        ինչ ինչո ինչու ինչպես իսկ իր իրենց կա կամ կան կարող կողմից համար հետ հետո մեզ մեկ մենք մեր մի մոտ նա
        նաև նրա նրանց նրանք ո ով ովքեր որ որը որի որոնք որպես որտեղ որքան ու ում ուր պետք վրա քան քանի քո և
    """,
    "tamil": """
        அங்கு அதன் அதில் அது அந்த அனைத்து அல்லது அவன் அவர் அவர்கள் அவள் அவை ஆகிய ஆகும் ஆனால் இங்கு இதனால்
        இதன் இதில் இது இந்த இரு இருக்கிறது இருந்த இருந்து இல்லை இவர் இவை உன் உள்ள உள்ளது எங்கு எங்கே எதற்கு
        எது எத்தனை எந்த என எனக்கு என் என்ன என்பது என்ற என்று எப்படி எப்போது எவை எவ்வளவு ஏன் ஒரு ஒரே கொண்ட
        தன் தான் நான் நாம் நீ நீங்கள் பற்றி பல பிறகு போது போன்ற மட்டும் மற்றும் மிக மிகவும் மூலம் மேலும்
        யாருடைய யார் வரை வேண்டும்
    """,
    "polish": """
        a aby albo ale ani bardzo bez bo by bym być był była było były będzie będą chce ci co czego czemu
        czy czyj czyja czyje czym dla dlaczego do gdy gdyby gdzie go i ich ile im inny ja jak jaka jaki
        jakich jakie jakiej jakim jako je jego jej jest jeszcze jeśli już każdy kiedy kim kogo komu kto
        która które którego której który którym którzy ku lub ma mają mam mi między mnie moja moje może
        można my mój na nad nam nas nasz nic nich nie niego niej nim niż o od on ona one oni ono oraz po pod
        ponieważ przed przez przy się skąd swój są ta tak także tam te tego tej ten też to tu twój ty tych
        tylko tym u w we więc wszystko wy z za ze że żeby
    """,
    "czech": """
        a aby ale ani ano asi bez bude budou by byl byla byli bylo být ci co což do ho i jak jako jaká jaké
        jaký je jeho jej jejich její jen ještě jich jim jsem jsi jsme jsou jste já k kam kde kdo kdy když ke
        kolik komu kterou která které kterého který kteří ku ma mají mezi mi mne mně moje my má mé mít můj
        může na nad ne nebo není než nic nám nás náš o od on ona oni ono po pod podle pokud pro proto proč
        před přes při s se si své svůj ta tak také tam te tedy ten tento to toho tohoto tom tomu tu ty těch
        u už v ve vy však všechno z za zda ze či že
    """,
    "ukrainian": """
        а або але б без би був була були було бути в вам вас ваш вже ви вона вони воно все всі всіх від він
        да де для до же з за зі й його ким кого коли кому крім куди ли мене мені ми може можна моя між мій
        на над нам нас наш не ним них ні о од один по при про під та так такий також там те тебе ти то тобто
        того той тому тут у хто це цей цього ця ці цієї чи чий чия чиє чого чому що щоб я як яка яке який
        якого якої яку які є і із їй їм їх її
    """,
    "bulgarian": """
        а ако ала бе без беше бил била били бъде в вас ваш ви все всеки всички във г ги го да дали до докато
        други е един една едни едно за защо защото и из или им има имат как каква какви какво какъв като
        кога кого кое което кои които кой който колко коя която къде към ли ме между ми много може мой моя
        му на над най не него нея ни нито но някои някой няма от още по под преди при с са само се си след
        сме сте съм със също т та тази така такъв те тези ти то това този той толкова тя у че чия ще я
    """,
    "hebrew": """
        אבל או אחרי איזה איזו איך אילו אין איפה אך אל אם אנחנו אני אשר את אתה אתם באיזה בגלל בה בו ביותר בין
        גם דרך ה האם הוא הזאת הזה היא היה היו הייתה היכן היתה הם הן זאת זה זו יותר יש כאשר כדי כי כך כל כמה
        כמו לא לאן לה להם לו לי לכם לנו לפני מאין מאיפה מדוע מה מהו מהי מי מן מתי נגד עד עוד על עם פה רק של
        שלה שלהם שלו שלי שלך שם
    """,
}
"""Common words by language: articles, pronouns, question words, prepositions, conjunctions, auxiliary verbs, and the
parts of words before or after an apostrophe. The key is the language's PostgreSQL text search configuration, if it has
one. A word listed with an apostrophe is common only with the apostrophe: "don't" is common, the name "Don" is not."""

_AMBIGUOUS = """
    ad ale ali also ama ann ari art ban bang bare bat bet bile bin bio bus car care co come comment con contra day
    de den des die dies din do don door dos dove due el em en end era fins fort go hat hay hem her hoe hut ins it
    jag la le los man mar may me mea men met mi mine mint moll mot multi net non nor of on one op os over pa par
    para pas per plus pod pot pour pre pro pun rang sale sam san sang sea sen sense ser sin sine sit so sobre son
    sub sue take tam tame tan tap tarp tem ten tens till to toes tom ton tots tout under us vain van var vast vi
    vid voi vos war wit yang zen
    b c d e f g h i j k l m n o p q r s t u v w x y z
"""
"""Common words of other languages that are also ordinary English words or parts of names. They are no evidence of a
question's language: "man of war" is not German, although "man" and "war" are common German words."""

_PUNCTUATION = "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~¡¿«»„“”‚‘’'…·–—،؛؟;׃।॥՞՝。、？！"
_APOSTROPHES = "'\u2019\u02bc"
_BEFORE_APOSTROPHES = re.compile(f"(?=[{_APOSTROPHES}])")
"""Where to split a token: before each apostrophe, because PostgreSQL also ends a word there."""
_ANY_APOSTROPHE = re.compile(f"[{_APOSTROPHES}]")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff]")


def without_common_words(question: str, languages: Sequence[str]) -> str:
    """Remove the words that are common in the question's own language. The documents may be in another language.

    A question that consists only of common words is returned unchanged.

    Args:
        question: The question. It is split at whitespace, and the words that are left are joined by single spaces.
        languages: The documents' languages. If the question could be in several, the language listed first is chosen.
    """
    tokens = [_parts(token) for token in question.split()]
    names = _names([part for parts in tokens for part in parts])
    own = _language_of([part for parts in tokens for part in parts if part not in names], languages)
    if own is None:
        return question
    left = [
        _joined(parts, [part for part in parts if part in names or own not in _languages_of(part)]) for parts in tokens
    ]
    return " ".join(filter(_has_words, left)) or question


def _parts(token: str) -> list[str]:
    """Split a token before its apostrophes, such as `What's` into `What` and `'s`, unless the whole token is common."""
    return [token] if _languages_of(token) else _BEFORE_APOSTROPHES.split(token)


def _joined(parts: Sequence[str], left: Sequence[str]) -> str:
    """Join the parts that are left. If only single letters are left, such as the `l` of `l'or`, join all parts."""
    if left and all(len(_folded(part)) <= 1 for part in left):
        left = parts
    return "".join(left).lstrip(_APOSTROPHES)


def _names(words: Sequence[str]) -> frozenset[str]:
    """Return the words in capitals as names, such as US, IT and WHO. If all words are in capitals, return no words."""
    if not any(sign.islower() for word in words for sign in word):
        return frozenset()
    return frozenset(word for word in words if word.isupper() and len(_folded(word)) > 1)


def _language_of(words: Sequence[str], languages: Sequence[str]) -> str | None:
    """Return the language in which the largest number of words is common, or None if no word indicates one."""
    common = Counter(language for word in words for language in _languages_of(word))
    telling = Counter(
        language
        for word in words
        for language in _languages_of(word)
        if language == "english" or _folded(word) not in _ambiguous()
    )
    # A single word is weak evidence: "ano" is common in Czech and means "year" in Spanish.
    likely = [
        one
        for one in dict.fromkeys([*languages, *COMMON])
        if telling[one] and (common[one] > 1 or one in languages or one == "english")
    ]
    return max(likely, key=lambda one: (telling[one], common[one]), default=None)


def _languages_of(word: str) -> frozenset[str]:
    """Return the languages in which a word is common."""
    folded = _folded(word)
    found = _languages().get(folded, frozenset())
    return found | _languages().get(f"'{folded}", frozenset()) if word.startswith(tuple(_APOSTROPHES)) else found


def _has_words(text: str) -> bool:
    return any(map(str.isalnum, text))


def _folded(word: str) -> str:
    """Return a word in lower case without surrounding punctuation; a Greek word also loses its accents.

    Greek is written without accents in capitals, and many people omit them in lower case as well. In Latin script an
    accent makes a different word.
    """
    letters = _ANY_APOSTROPHE.sub("'", word).strip(_PUNCTUATION).casefold()
    if not _GREEK.search(letters):
        return letters
    return "".join(letter for letter in normalize("NFD", letters) if not combining(letter))


@cache
def _ambiguous() -> frozenset[str]:
    return frozenset(_AMBIGUOUS.split())


@cache
def _languages() -> dict[str, frozenset[str]]:
    """Map each common word to the languages in which it is common."""
    found: dict[str, set[str]] = defaultdict(set)
    for language, words in COMMON.items():
        for word in words.split():
            found[f"'{_folded(word)}" if word.startswith("'") else _folded(word)].add(language)
    return {word: frozenset(languages) for word, languages in found.items()}
