/// Words that say nothing about what a text is about.
enum StopWords {
    /// English function words, and what an apostrophe leaves of their short forms.
    static let english: Set<String> = Set(
        """
        a about above after again against all am an and any are as at be because been before being below between both but
        by can cannot could did do does doing down during each few for from further had has have having he her here hers
        herself him himself his how i if in into is it its itself just let me more most my myself no nor not now of off on
        once only or other our ours ourselves out over own same she should so some such than that the their theirs them
        themselves then there these they this those through to too under until up us very was we were what when where which
        while who whom why will with would you your yours yourself yourselves
        s t d m o ll re ve ain aren couldn didn doesn don hadn hasn haven isn shouldn wasn weren won wouldn
        """
        .split(whereSeparator: \.isWhitespace).map(String.init))
}
