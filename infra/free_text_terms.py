"""What identifiers look like in reports, and the medical words that only look like them."""

from __future__ import annotations

from typing import NamedTuple


class Rule(NamedTuple):
    """`expression` is in the dialect of the `regex` package: what stands before \\K is context and stays."""

    kind: str
    name: str
    expression: str


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


EPONYMS = _words(
    "alzheimer arbor auer baker bankart barrett basedow bosniak breslow broca burkitt charcot chiari clark cobb "
    "colles crohn cushing down duchenne ewing fleischner foley gleason graves hashimoto hill hodgkin hoffa "
    "hounsfield howell huntington jolly joseph kellgren kaposi kerley klatskin lauge lawrence lewy lisfranc "
    "looser luschka meckel merkel monro morton murphy paget pancoast parkinson percheron perthes risser roux "
    "salter harris sachs schatzker schmorl sjogren sjögren swan ganz sylvian virchow weber wegener wernicke "
    "whipple willis wilms wilson winslow"
)
"""Surnames that are diseases, signs and scales: only a title, a label or the record itself makes one a person."""

EPONYM_NOUN = (
    r"(?:disease|syndrome|cyst|sign|fracture|lymphoma|sarcoma|tumou?r|lesion|lines?|node|nodule|nodes|grade|score|stage|"
    r"type|classification|criteria|catheter|procedure|deformity|malformation|angle|units?|bod(?:y|ies)|rods?|joint|"
    r"guidelines?|area|level|index|zones?|duct|palsy|ulcer|hernia|thyroiditis|carcinoma|pouch|oesophagus|esophagus|"
    r"anastomosis|bandage|test|ring|technique|stain(?:ing)?|view|reflex|ligament|space)"
)

COMMON = _words(
    "back bell best black blood bloom blue bone boy brain bright brook brown bush case church clear cold cook "
    "cross day drew early east fair field fine fish flood foot ford forest fox free frost gray green grey hall "
    "hand hands hard head heart hill hope house hunt jay joy jump key king knee lake lamb lane large law leg "
    "light little long love low major male mark marsh may middle mild miles moon moss neck new noble normal north "
    "old page pain park part patient peel pool poor power price pride queen ray read rice rich ring rivers root "
    "rose sharp short silver skin small soft south spine spring stable stark steel still stone strong summer sun "
    "swan thick thin tooth town tumor tumour vein wall ward water way weak web weeks wells west white will winter "
    "wise wood woods young"
)
"""Words of reports that are also surnames: the patient's own name among them is taken only with a capital."""

NOT_NAMES = COMMON | _words(
    "a an the this that these those there he she it they we i you his her their our my no not none nil yes and or "
    "of in on at by for from with without to as is was were are be been has have had did does do will may can "
    "should abdomen abdominal accession account acct acc acute address admitted advised age aged ago anatomy "
    "angiography ankle anterior aorta appearance approved arm artery arterial assessment attending axial "
    "bilateral biopsy birth bladder body bowel breast bs calcification called cardiac cardiology care cc chest "
    "chronic clinic clinical clinician colon comment comments comparison complains conclusion consistent consultant "
    "contact contrast coronal ct date dated denies department dept dermatology dermoscopy detector diagnosis "
    "diagnostic digital discharge discussed disease dob doctor dose dr echo effusion elbow electronically "
    "emergency ent er evaluation exam examination fellow female femur fever final finding findings follow "
    "fracture fundus gastroenterology gender gp gynaecology gynecology haematology head hematology hip history "
    "hospital icu id image images imaging impression indication internal interpretation kidney lateral left "
    "lesion liver location lower lumbar lung male mammography mass md medical medicine mother mrn mri ms "
    "musculoskeletal name negative nephrology neurology neurosurgery nurse obstetrics oncology ophthalmology "
    "orthopaedics orthopedics outpatient overread oct pa pacs paediatrics pathology patient patients pediatrics "
    "pelvis pending phone physician physio picture plain plan pneumonia positive posterior prior prone procedure "
    "professor provider pt pulmonary quality radiographer radiologist radiology reason recommend recommendation "
    "recommended referral referred referring regarding registrar renal report reported reports requested resident "
    "respiratory result results retina review reviewed rheumatology right rn sagittal scan sent service severe "
    "sex shoulder side signed skull sonographer sonography special specimen spectroscopy staff stage status "
    "structured study supine surgeon surgery surgical suspected team technique technologist thoracic thorax "
    "thyroid today tomography trauma treating triage ultrasound unchanged undergoing unit unknown unremarkable "
    "upper urgent urology us vascular verified views ward who wrist x-ray xray yesterday admission angio "
    "arthroscopy mary joseph stat axillary transverse oblique portable upright erect monday tuesday wednesday "
    "thursday friday saturday sunday"
)

GIVEN_NAMES = _words(
    "aaron abdul abigail adam adrian agnes agnieszka ahmed aisha alan albert alejandro alex alexander alexandra "
    "alfred ali alice alicia allison amanda amelia amina amir amy ana anastasia anders andrea andreas andrew "
    "andrzej angela anita anke anna anne annette annika anthony antoine antonio arjun arnold arthur astrid "
    "barbara beatrice beatriz benjamin bernard bernd betty birgit boris brandon brenda brian brigitte bruce bruno "
    "camille carl carla carlos carmen carol caroline catherine cecilia charles charlotte chiara chloe chris "
    "christian christina christine christoph christopher claire clara claude claudia colin cynthia daniel daniela "
    "david deborah denise dennis diana diane dieter dimitri dmitri dominik donald donna dorothy douglas duncan "
    "edward eileen elena eleanor elisabeth elizabeth ella ellen emily emma emmanuel eric erik erika ernst esther "
    "eva evelyn fatima felix fernando fiona florian frances francesca francesco francisco francois franz "
    "fred frederick friedrich gabriel gabriela gary george georg gerald gerhard giovanni giulia giuseppe gloria "
    "gregory guido gustav hannah hans harald harold harry hassan heather heidi heinrich heinz helen helena helga "
    "henrik henry herbert hermann hiroshi holger horst hugo ian ibrahim igor ingrid irene irina isabel isabella "
    "ivan jacob jacqueline jacques jakob james jan jane janet jason javier jean jeffrey jennifer jens jeremy "
    "jessica joan johann johannes john johnny jonas jonathan jorge jose josef joseph joshua joyce juan judith "
    "judy julia julian julie jürgen justin karen karin karl katarina katharina katherine kathleen keith kenneth "
    "kevin klaus kristin kumar kurt lars laura lauren laurent lawrence leila leon leonard leonie leonardo linda "
    "lisa lorenzo louis louise luca lucas lucia luis lukas magdalena manfred manuel marcel marco marcos marcus "
    "margaret margarita maria marianne marie marina mario marion markus marta martha martin martina mary mateusz "
    "matteo matthew matthias maurice maximilian mehmet melanie melissa michael michel michelle miguel mikhail "
    "mohamed mohammed monica monika muhammad mustafa nadia nancy natalia natalie natasha nathan nicholas nicole "
    "niels nicolas nikolai nina noah nora olaf oleg olga oliver olivia omar oscar otto pablo pamela patricia "
    "patrick paul paula paulo pedro peter petra philip philippe pierre pieter piotr priya rachel rafael rainer "
    "raj ralph ramon raymond rebecca renate ricardo richard rita robert roberto roger roland rolf ronald rosa "
    "rosemary rudolf russell ruth samantha samuel sandra sara sarah sebastian sergei sharon sheila shirley silvia "
    "simon simone sofia sonja sophia sophie stefan stefanie stephanie stephen steven stuart sunita susan susanne "
    "suzanne sven svetlana sylvia tatiana teresa theodore theresa thomas thorsten timothy tobias tomasz tom "
    "torsten uwe ulrich ursula valentina valerie vanessa vera veronica victor victoria viktor vincent vladimir "
    "walter werner wilhelm william winston wolfgang xavier yasmin yuki yusuf yvonne zoe"
)
"""Common enough that a capitalised word after one is taken for a surname, though nothing says so."""

GENERIC_PLACES = _words(
    "a an another any at breast city clinic community day district emergency eye fracture general hospital in "
    "local medical memory military of other our outpatient outside pain private prior public referring regional "
    "skin state stroke teaching that the their this to transferring trauma university veterinary vein walk-in "
    "your course admission discharge no number policy stay medicine department visit school health high imaging "
    "from seen transferred performed acquired obtained compared comparison centre center and or ward nursing home"
)

_PARTICLE = (
    r"(?:(?:[Aa]l|[Ee]l|bin|ibn|[Vv]an|[Vv]on|[Dd]er|[Dd]en|[Dd]e|[Dd]i|[Dd]a|[Dd]el|[Ll]a|[Ll]e|[Dd]u|dos|ten|ter)"
    r"[ \-])"
)
# Every repetition has an end: a page without a space must not cost a minute.
_WORD = r"\p{Lu}[\p{L}\p{M}]{0,40}+(?:['\u2019\-]\p{L}[\p{L}\p{M}]{0,40}+){0,3}+"
_START = r"(?<![\p{L}\p{M}'\u2019\-])"
_TOKEN = rf"(?:\p{{Lu}}\.|{_PARTICLE}{{0,2}}{_WORD})"
_NAME = rf"{_TOKEN}(?:[ ]?(?<=[ .]){_TOKEN}){{0,3}}"
_BARE_NAME = (
    rf"\b(?i:{'|'.join(sorted(GIVEN_NAMES))})\b(?<=\p{{Lu}}[\p{{L}}]{{1,12}})(?:[ ]\p{{Lu}}\.?(?=[ ]))?[ ]"
    rf"(?!(?i:{'|'.join(sorted(NOT_NAMES | EPONYMS))})\b){_PARTICLE}{{0,2}}{_WORD}\b"
    rf"(?!(?:['\u2019]s)?[ ]{EPONYM_NOUN}\b)"
)
_FULL_NAME = rf"{_START}{_TOKEN}(?:[ ]?(?<=[ .]){_TOKEN}){{1,3}}"
_LISTED = rf"{_WORD}(?:[ ]{_WORD})?,[ ]?{_WORD}(?:[ ]\p{{Lu}}\b\.?)?"
_ANY_NAME = rf"(?:{_LISTED}|{_NAME})"
_ROLE = (
    r"nurse|technologist|technician|radiographer|radiologist|sonographer|surgeon|neurosurgeon|pathologist|oncologist|"
    r"physician|cardiologist|neurologist|dermatologist|ophthalmologist|registrar|provider|clinician"
)
_TITLE = (
    rf"(?:\b(?:Drs?|Mrs?|Ms|Miss|Mme|Mlle|Mmes|Prof|Professor|Doctor|Doktor|Herrn?|Frau|Madame|Monsieur|Señora?|Sra?|"
    rf"Dott|Sir|Lady|Sister|Matron|Consultant|{_ROLE})\b\.?|\b(?:DRS?|MRS|PROF|HERRN?|FRAU)\b\.?|\b(?:MR|MS)\.)"
    r"(?:,?[ ](?:Dr|Prof|med|Professor)\b\.?){0,3}"
)
_LABEL = (
    r"paciente?|nombre|nome?|prénom|vorname|nachname|patient(?:in|'s)?(?:[ ]name)?|"
    r"(?:pt|last|first|given|family|maiden|full)?[ ]?name|surname|"
    rf"(?:referring|ordering|requesting|attending|reporting|performing|reading)"
    rf"(?:[ ](?:{_ROLE}|doctor|md))?|{_ROLE}|operator|doctor|"
    r"consultant|resident|fellow|next[ ]of[ ]kin|guardian|contact|attn|attention|cc|signed|author|witness|"
    r"dictated|reported|verified"
)
_DEED = (
    r"dictated|transcribed|reported|signed|verified|read|reviewed|interpreted|performed|requested|referred|approved|"
    r"authenticated|prepared|typed|seen|examined|accompanied|ordered|scanned|operated|assessed|treated|attested"
)

_MONTH = (
    r"(?:(?i:january|february|march|april|june|july|august|september|october|november|december|januar|februar|märz|"
    r"maerz|mai|juni|juli|oktober|dezember|janvier|février|fevrier|mars|avril|juin|juillet|août|septembre|octobre|"
    r"novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre|"
    r"gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre|januari|februari|maart|mei|augustus)|"
    r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Okt|Nov|Dec|Dez|JAN|FEB|MAR|APR|JUN|JUL|AUG|SEPT?|OCT|NOV|DEC)(?!\p{L})\.?)"
)
_MAY = r"(?:May|MAY)"
_DAY = r"(?<![\d.,/])(?<!\p{L})(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th|\.)?"
_YEAR = r"(?:(?:19|20)\d\d|['\u2019]\d\d)"
_NO_UNIT = r"(?![\d.,]*\d|[ ]?(?:%|mm|cm|ml|mg|g|kg|years?|days?|weeks?|months?|x)\b)"
_DAY_NUMBER = r"(?:0?[1-9]|[12]\d|3[01])"
_NUMBERS = r"(?<![\d.\-/])"
_NO_MORE = r"(?![.\-/]?\d|[ ]?(?:mm|cm|ml|mg)\b)"

_CAPITAL = r"(?:St\.|Saint|\p{Lu}[\p{L}'\u2019\-]{1,40}+)"
_HOUSE = (
    r"(?:Hospitals?|Clinics?|Klinik|Klinikum|Krankenhaus|(?:Medical|Health|Imaging|Cancer|Radiology)[ ]Cent(?:er|re)|"
    r"Medical[ ]Group|Infirmary|Sanatorium|Nursing[ ]Home|Hospice|Care[ ]Home|High[ ]School|School|University|College|"
    r"Universitätsklinikum|Hôpital|Clinique|Ospedale|Ziekenhuis|Healthcare|Health[ ]System|HOSPITALS?|CLINIC|"
    r"(?:MED(?:ICAL)?|HEALTH|IMAGING|CANCER)[ ](?:CTR|CENTER|CENTRE)|Med[ ]Ctr|INFIRMARY|UNIVERSITY)"
)
_STREET = (
    r"(?:Street|Avenue|Ave|Road|Rd|Lane|Drive|Boulevard|Blvd|Court|Place|Square|Terrace|Crescent|Way|"
    r"STREET|ROAD|AVENUE)"
)

_NUMBERED = (
    r"mrn|med(?:ical)?[ ]rec(?:ord)?|patient|pat|pt|accession|acc|acct|account|case|visit|encounter|record|hospital|"
    r"chart|policy|insurance|member|serial|study|exam|order|requisition|specimen|ssn|nhs|fall|device|licen[cs]e|badge|passport|"
    r"pager|unit|bed|room|invoice|reference|ref|registration"
)
_NUMBER_WORD = r"(?:number|num|no|nr|id|identifier|code)\b\.?"
_CODE = r"(?!(?:19|20)\d\d\b)(?=(?:[\w\-/]{0,30}?\d){3})[\p{L}\d](?:[\w\-/]{0,40}[\p{L}\d])"

RULES: tuple[Rule, ...] = (
    Rule("NAME", "after a title", rf"{_TITLE},?[ ](?!Mary[ ]Joseph)\K{_NAME}"),
    Rule("NAME", "two after one title", rf"\b(?:Drs|Mr|Herr)\b\.?[ ]{_NAME}(?:,|[ ]and|[ ]&|[ ]und)[ ]\K{_NAME}"),
    Rule("NAME", "after a label", rf"(?i:\b(?:{_LABEL})\s?:\s{{0,3}})\K{_ANY_NAME}"),
    Rule("NAME", "name is", rf"(?i:\bname(?:d|[ ]is|[ ]of)[ ])\K{_ANY_NAME}"),
    Rule("NAME", "after a name field", rf"(?i:(?:\bID[ ]?\S+,[ ]|\b)name[ ])\K{_NAME}"),
    Rule("NAME", "by whom", rf"(?i:\b(?:{_DEED})[ ]by\s?:?\s{{0,3}}(?<=[\s:])(?:the[ ])?)\K{_ANY_NAME}"),
    Rule("NAME", "with whom", rf"(?i:\b(?:discussed|reviewed|spoke|communicated|shared)[ ](?:with|to)[ ])\K{_NAME}"),
    Rule("NAME", "referring whom", rf"(?i:\breferring[ ])\K{_FULL_NAME}(?=[ ](?:for|to)\b)"),
    Rule(
        "NAME", "before a degree", rf"{_FULL_NAME}(?=,?[ ](?:M\.?D\b|D\.O\.|MBBS|FRCR|FRCPC|Ph\.?D|R\.?N\b|RDMS|PA-C))"
    ),
    Rule("NAME", "before an office", rf"{_FULL_NAME}(?=,[ ](?:consultant|attending|resident|registrar|fellow)\b)"),
    Rule("NAME", "I, the undersigned", rf"\bI,[ ]\K{_NAME}(?=,)"),
    Rule(
        "NAME", "before an age", rf"{_FULL_NAME}(?=,?[ ](?:(?:is|was)[ ])?(?:an?[ ])?\d{{1,3}}[ \-]?(?:year|yo\b|y/o))"
    ),
    Rule("NAME", "the patient, by name", rf"(?i:\bpatient),?[ ]\K{_FULL_NAME}(?=,|[ ](?:is|was|had|has)\b)"),
    Rule(
        "NAME",
        "a relation",
        rf"(?i:\b(?:daughter|son|wife|husband|mother|father|brother|sister|partner|friend|neighbou?r|aunt|uncle|niece|"
        rf"nephew|pcp|baby(?:[ ](?:boy|girl))?)),?[ ](?!Mary[ ]Joseph)\K{_NAME}",
    ),
    Rule("NAME", "under regards", rf"(?i:\b(?:regards|sincerely|yours)),?[ ]?\n+\K{_NAME}"),
    Rule("NAME", "a given name first", _BARE_NAME),
    Rule("NAME", "all small", r"\b(?:dr|drs|mrs|prof)\b\.?[ ]\K\p{Ll}{3,}"),
    Rule("NAME", "caret", r"\b\p{L}[\p{L}'\-]{0,40}+(?:\^{1,4}[\p{L}'\-]{1,40}+){1,5}+"),
    Rule("NAME", "SURNAME,GIVEN", r"\b\p{Lu}[\p{Lu}'\-]{2,40}+,\p{Lu}{3,40}+\b"),
    Rule("DATE", "day month", rf"{_DAY}[ \-]?(?:(?:of|de)[ ])?{_MONTH}(?:(?:,?[ \-]?|[ ]de[ ]){_YEAR}|-\d\d\b)?"),
    Rule("DATE", "day May", rf"{_DAY}[ \-]?(?:of[ ])?{_MAY}(?:,?[ \-]?{_YEAR}|-\d\d\b|(?=\s*(?:[.,;:)]|$)))"),
    Rule("DATE", "month day", rf"\b(?:{_MONTH}|{_MAY})[ ]{_DAY_NUMBER}(?:st|nd|rd|th)?\b{_NO_UNIT}(?:,?[ ]{_YEAR})?"),
    Rule("DATE", "month year", rf"\b(?:{_MONTH}|{_MAY})(?:,?[ \-]|[ ]of[ ]){_YEAR}\b"),
    Rule("DATE", "with a year", rf"{_NUMBERS}{_DAY_NUMBER}([./\-]){_DAY_NUMBER}\1(?:19|20)?\d\d{_NO_MORE}"),
    Rule("DATE", "year first", rf"{_NUMBERS}(?:19|20)\d\d([./\-])(?:0?[1-9]|1[0-2])\1{_DAY_NUMBER}{_NO_MORE}"),
    Rule("DATE", "month/year", rf"{_NUMBERS}(?:0?[1-9]|1[0-2])/(?:19|20)\d\d{_NO_MORE}"),
    Rule("DATE", "eight digits", r"(?<![\d.])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\d.]\d|\d)"),
    Rule(
        "DATE",
        "a year",
        r"(?i:\b(?:in|since|until|from|year|before|after|day|eve|easter|christmas)[ ])\K(?:19|20)\d\d\b(?![ ]?[\-x/])",
    ),
    Rule(
        "AGE", "years", r"(?<![\d.,])(?:9\d|1[0-2]\d)(?=(?:[ \-]?(?:years?|yrs?|yo|jährig\w*|ans)\b|[ ]?y/o|[ ]?y\.o))"
    ),
    Rule("AGE", "aged", r"(?i:\bage[d:]{0,2}[ ](?:of[ ])?)\K(?:9\d|1[0-2]\d)\b(?![.,]\d)"),
    Rule("AGE", "header", r"\b0?(?:9\d|1[0-2]\d)Y\b"),
    Rule(
        "EMAIL",
        "address",
        r"(?<![\p{L}\d._%+\-])[\p{L}\d._%+\-]{1,64}+@[\p{L}\d\-]{1,63}+(?:\.[\p{L}\d\-]{1,63}+){1,8}+",
    ),
    Rule("URL", "address", r"(?i:\b(?:https?|ftp|file)://|\bwww\.)[^\s<>\"')\]]*[^\s<>\"')\].,;]"),
    Rule(
        "PHONE",
        "after a cue",
        r"(?i:\b(?:tel|phone|telephone|fax|cell|mobile|call(?:ed)?|bleep|pager?)\b"
        r"\.?:?[ ](?:at[ ]|to[ ]|no\.?[ ]|report[ ]to[ ])?)\K\+?\(?\d[\d()\-. ]{4,}\d",
    ),
    Rule(
        "ID",
        "after a numbered thing",
        rf"(?i:\b(?:{_NUMBERED})\b(?:[ ]{_NUMBER_WORD})?[ ]?(?:{_NUMBER_WORD})?[ ]?[:#]{{0,2}}[ ]?)\K{_CODE}",
    ),
    Rule("ID", "ID", rf"\bI\.?D\.?[ ]?[:#]?[ ]\K{_CODE}"),
    Rule("ID", "social security", r"(?<![\d\-])\d{3}-\d{2}-\d{4}(?![\d\-])"),
    Rule("ID", "health service", r"(?i:\bnhs[ ](?:number|no\.?)[ :]{1,2})\K\d{3}[ \-]?\d{3}[ \-]?\d{4}\b"),
    Rule("ID", "long number", r"(?<![\d.,])\d{7,}(?![\d]|[.,]\d)"),
    Rule("ID", "letters and digits", r"\b\p{Lu}{1,4}\d{0,3}-?\d{5,}(?:-\d+)*\b"),
    Rule("ID", "groups of digits", r"(?<![\d\-])\d{2,}-\d{2,}-(?:\d{2,}-)*\d{4,}(?![\d\-])"),
    Rule("ID", "unique identifier", r"(?<![\d.])\d+(?:\.\d+){5,}(?![\d])"),
    Rule("PLACE", "house", rf"\b(?:{_CAPITAL}[ ]){{1,4}}{_HOUSE}\b(?:[ ](?:of|in|at)[ ]{_CAPITAL}(?:[ ]{_CAPITAL})?)?"),
    Rule(
        "PLACE",
        "house of",
        rf"\b(?:{_CAPITAL}[ ]){{0,2}}{_HOUSE}[ ](?:(?:of|at|in)[ ])?{_CAPITAL}"
        rf"(?:[ ](?:der|de|am|an|im|{_CAPITAL})){{0,3}}",
    ),
    Rule(
        "PLACE",
        "street",
        rf"\b\d{{1,5}}[a-z]?[ ](?:{_CAPITAL}[ ]){{1,3}}{_STREET}\b\.?(?:,[ ]{_CAPITAL}(?:[ ]{_CAPITAL})?)*",
    ),
    Rule("PLACE", "strasse", r"\b\p{Lu}\p{L}+(?:straße|strasse|str\.|platz|gasse|weg)[ ]\d+[a-z]?\b"),
    Rule("PLACE", "post code", r"(?i:\b(?:zip|post(?:al)?[ ]?code|plz)(?:[ ]code)?[ :]{1,2})\K[\w\-]{4,10}"),
    Rule("PLACE", "town and state", rf"\b{_CAPITAL}(?:[ ]{_CAPITAL})?,[ ]\p{{Lu}}{{2}}[ ]\d{{5}}\b"),
    Rule(
        "PLACE",
        "home",
        rf"(?i:\b(?:resident[ ]of|native[ ]of|(?:lives|living|residing|resides|born|works)[ ](?:in|at)))"
        rf"[ ]\K{_CAPITAL}(?:,?[ ]{_CAPITAL}){{0,3}}",
    ),
    Rule("NAME", "given name last", rf"{_START}{_WORD},[ ]?(?=\p{{Lu}})(?i:{'|'.join(sorted(GIVEN_NAMES))})\b"),
    Rule("NAME", "before a birthday", rf"{_START}{_LISTED}(?=,?[ ]\(?(?i:geb|dob|born|née?|nacid[oa])\b)"),
    Rule("NAME", "initials", r"(?i:\binitials?:?[ ])\K\p{Lu}{2,4}\b"),
    Rule("DATE", "without its year", r"(?i:\b(?:on|dated)[ ])\K(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])(?![\d/%])"),
    Rule("DATE", "a short year", r"(?i:\b(?:in|since)[ ])\K['\u2019]\d\d\b"),
    Rule("PLACE", "road", rf"\b(?:{_CAPITAL}[ ]){{1,2}}(?:Street|Avenue|Road|Lane|Boulevard)\b"),
)
